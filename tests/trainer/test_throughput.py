"""What is logged of a step's speed and memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from training_data import config_for

from schemas.errors import ConfigError
from trainer.config import HardwareConfig
from trainer.measures.gpus import GPUS, told_by_driver
from trainer.measures.throughput import MEASURED, memory_of, peak_flops
from trainer.train import train


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_a_gpu_is_told_by_what_its_driver_calls_it(driver: str, name: str | None) -> None:
    gpu = told_by_driver(driver)
    assert (None if gpu is None else gpu.name) == name


def test_the_config_comes_before_the_table() -> None:
    cpu = torch.device("cpu")
    assert peak_flops(HardwareConfig(), cpu) is None
    assert peak_flops(HardwareConfig(gpu="H200"), cpu) == GPUS["H200"].peak_tflops * 1e12 == 790e12
    assert peak_flops(HardwareConfig(gpu="H200", peak_tflops=900), cpu) == 900e12
    with pytest.raises(ValueError, match="must be one of B200, H200"):
        HardwareConfig(gpu="H300")
    with pytest.raises(ValueError, match="multiple of nodes"):
        HardwareConfig(processes=9, nodes=2)


def test_memory_of_a_process_is_its_peak() -> None:
    before = memory_of(torch.device("cpu")).peak
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    assert memory_of(torch.device("cpu")).peak >= max(before, block.numel())


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_every_step_tells_its_speed_and_memory(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", steps=2, hardware={"peak_tflops": 1e-3})
    train(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert set(MEASURED) <= set(line)
        assert 0 < line["mfu"] < line["hfu"]
        assert line["mfu"] == pytest.approx(line["tflops"] / 1e-3, rel=0.2)
        assert line["tokens_per_second"] > 32 * line["samples_per_second"]
        assert 0 < line["memory_gib"] <= line["memory_reserved_gib"]
        assert 0 <= line["data_wait"] < 1


def test_an_unknown_gpu_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hardware\.gpu"):
        config_for(tmp_path, tmp_path, tmp_path, hardware={"gpu": "toaster"})
