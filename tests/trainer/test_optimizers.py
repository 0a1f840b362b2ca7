"""Optimizers by name, and what is looked at before a run starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from torch import nn
from training_data import config_for

from schemas.errors import ConfigError
from trainer.config import TrainConfig
from trainer.distributed import Ranks
from trainer.optimization.kernels import check_kernels
from trainer.optimization.optimizers import build_optimizer, check_optimizer, measures

ALONE = Ranks(0, 1, 0, torch.device("cpu"))
PAIR = Ranks(0, 2, 0, torch.device("cpu"))


def run(optimizer: dict[str, Any] | None = None, **more: Any) -> TrainConfig:
    return config_for(Path("model"), Path("shards"), Path("run"), optimizer=optimizer or {}, **more)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "adamw", "learning_rate": 0.02},
        {"name": "adamw_8bit", "learning_rate": 0.02, "minimum_8bit_size": 256},
        {"name": "prodigy", "learning_rate": 1.0, "weight_decay": 0.01},
    ],
)
def test_every_optimizer_comes_near_a_minimum(optimizer: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    config = run(optimizer)
    check_optimizer(config, ALONE)
    goal = torch.randn(2048, generator=torch.Generator().manual_seed(0))
    number = nn.Parameter(torch.zeros(2048))
    built = build_optimizer([number], config, ALONE)
    for _ in range(300):
        built.zero_grad()
        (number - goal).square().sum().backward()
        built.step()
    assert float((number - goal).detach().abs().mean()) < 0.05
    assert capsys.readouterr().out == ""
    if optimizer["name"] == "adamw_8bit":
        assert built.state[number]["state1"].dtype == torch.uint8
    told = measures(built)
    assert (told.keys() == {"prodigy_d"} and told["prodigy_d"] > 1e-3) if optimizer["name"] == "prodigy" else not told


@pytest.mark.parametrize(("name", "package"), [("prodigy", "prodigyopt"), ("adamw_8bit", "bitsandbytes")])
def test_a_missing_package_is_named_before_the_start(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"pip install .*\[optimizers\]"):
        check_optimizer(run({"name": name, "learning_rate": 1.0}), ALONE)


def test_8_bits_need_a_kernel_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older releases of bitsandbytes have one for GPUs only, and say so at the first step."""

    def step(optimizer: Any) -> None:
        raise NotImplementedError("no kernel")

    monkeypatch.setattr(bitsandbytes.optim.AdamW8bit, "step", step)
    with pytest.raises(ConfigError, match="has no kernel for cpu"):
        check_optimizer(run({"name": "adamw_8bit"}), ALONE)


def test_a_sharded_prodigy_needs_gpus() -> None:
    config = run({"name": "prodigy", "learning_rate": 1.0}, engine={"zero_stage": 2})
    with pytest.raises(ConfigError, match="on GPUs only"):
        check_optimizer(config, PAIR)
    check_optimizer(config, ALONE)


@pytest.mark.parametrize("attention", ["cudnn", "flash_attention_2", "flash_attention_3"])
def test_an_attention_kernel_that_is_not_here_is_refused_before_the_start(attention: str) -> None:
    config = run(engine={"attention": attention}, batch_size=1)
    with pytest.raises(ConfigError, match="cannot be had on cpu"):
        check_kernels(config, ALONE, torch.float32)


@pytest.mark.parametrize("attention", ["flash", "cudnn", "flash_attention_2", "flash_attention_3"])
def test_only_sdpa_masks_the_padding_between_prompt_and_image(attention: str) -> None:
    """diffusers hands the packages' kernels the first so many keys of a row, which is right for padding at its end."""
    with pytest.raises(ConfigError, match=r"batch_size = 2: must be 1 with engine\.attention"):
        run(engine={"attention": attention}, batch_size=2)


def test_kernels_that_are_here_pass() -> None:
    check_kernels(run(engine={"attention": "flash"}, batch_size=1), ALONE, torch.bfloat16)
    check_kernels(run(engine={"compile": "eager"}), ALONE, torch.float32)
