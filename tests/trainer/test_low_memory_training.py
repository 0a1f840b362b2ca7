"""Training with quantised and offloaded frozen weights, as far as a CPU can: bitsandbytes quantises there, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_data import config_for

from schemas.errors import ConfigError
from trainer.adapters import open_stage
from trainer.measures.frozen_bytes import fetched_towers, frozen_core_bytes, tower_bytes
from trainer.train import train
from unified_model import assembly, placement
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.quantisation import DIT_IN_FULL, Quantisation, is_quantised
from unified_model.skeleton import release_skeleton


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_towers_on_call_train_as_towers_that_stay(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        plain, fetched = nn.Module.to, placement.fetched
        patch.setattr(
            nn.Module,
            "to",
            lambda module, *args, **more: (calls.append(type(module).__name__), plain(module, *args, **more))[1],
        )
        patch.setattr(
            placement,
            "fetched",
            lambda parts, device: (calls.append(f"fetched {type(parts[0]).__name__}"), fetched(parts, device))[1],
        )
        called = config_for(tiny_model, shards, tmp_path / "called", steps=2, frozen={"offload_towers": True})
        train(called)
    # Once a step; the tower was not brought to the device for good before.
    assert calls.count("fetched QwenSiglipTower") == 2 and "QwenSiglipTower" not in calls
    train(config_for(tiny_model, shards, tmp_path / "plain", steps=2))
    assert losses(tmp_path / "called") == losses(tmp_path / "plain")


@pytest.fixture
def four_bit_dit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What diffusers does on a GPU alone: the layers of FLUX's blocks in 4 bits."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    plain = assembly._transformer

    def load(config: Any, dtype: torch.dtype, quantisation: Quantisation) -> Any:
        transformer = plain(config, dtype, Quantisation())
        if quantisation.transformer == "none":
            return transformer
        for path, layer in list(transformer.named_modules()):
            if isinstance(layer, nn.Linear) and path.partition(".")[0] not in DIT_IN_FULL:
                own = bitsandbytes.nn.Linear4bit(
                    layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=dtype
                )
                own.load_state_dict(layer.state_dict())
                parent, _, name = path.rpartition(".")
                setattr(transformer.get_submodule(parent), name, own.to("cpu"))
        transformer.is_quantized = transformer.is_loaded_in_4bit = True
        return transformer

    monkeypatch.setattr(assembly, "_transformer", load)
    monkeypatch.setattr(Quantisation, "check", lambda self: None)


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.usefixtures("four_bit_dit")
def test_adapters_train_on_a_quantised_dit(tiny_model: Path, shards: Path, tmp_path: Path, stage: int) -> None:
    changes: dict[str, Any] = {
        "stage": "lora", "steps": 4, "checkpoints": {"every": 2}, "engine": {"zero_stage": stage, "dtype": "bfloat16"},
        "optimizer": {"learning_rate": 0.02}, "lora": {"rank": 4}, "frozen": {"quantise_dit": "4bit"},
    }  # fmt: skip
    unbroken = config_for(tiny_model, shards, tmp_path / "unbroken", **changes)
    result = train(unbroken)
    assert result.export is not None
    broken = unbroken.model_copy(update={"output": str(tmp_path / "broken"), "steps": 2})
    train(broken)
    train(broken.model_copy(update={"steps": 4}))
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")
    raw = load_file(result.export / "raw" / "adapter" / "adapter_model.safetensors")
    assert all(value.abs().max() > 0 for name, value in raw.items() if "lora_B" in name)
    # The adapter goes onto the weights in full as well as onto quantised ones.
    picture, images = np.zeros((64, 64, 3), np.uint8), []
    for bits in ("none", "4bit"):
        pipeline = UnifiedEditPipeline.from_pretrained(result.export, quantise_transformer=bits)
        assert is_quantised(pipeline.model.core.denoiser.transformer) == (bits == "4bit")
        images.append(pipeline("make it red", [picture], height=32, width=32, steps=1).astype(int))
    assert 0 < np.abs(images[0] - images[1]).mean() < 20


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "edit"},
        {"stage": "lora", "lora": {"export": "merged"}},
        {"stage": "lora", "engine": {"zero_stage": 3}},
    ],
)
def test_a_quantised_dit_is_for_adapters_only(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"frozen\.quantise_dit"):
        config_for(Path("x"), Path("x"), Path("x"), frozen={"quantise_dit": "4bit"}, **changes)


def test_a_plan_counts_frozen_weights_as_they_are_stored() -> None:
    skeleton = release_skeleton(torch.bfloat16)
    config = config_for(
        Path("x"), Path("x"), Path("x"), stage="lora", frozen={"quantise_vlm": "4bit", "quantise_dit": "4bit"}
    )
    open_stage(skeleton.core, config)
    plain = config_for(Path("x"), Path("x"), Path("x"), stage="lora")
    frozen = sum(value.numel() for value in skeleton.core.parameters() if not value.requires_grad)
    assert frozen_core_bytes(skeleton, plain) == 2 * frozen
    assert fetched_towers(config) == set()
    for bits, names in (("none", {"VLM", "T5", "SigLIP", "CLIP"}), ("4bit", {"SigLIP", "CLIP"})):
        frozen_config = {"offload_towers": True, "quantise_vlm": bits}
        assert fetched_towers(config_for(Path("x"), Path("x"), Path("x"), frozen=frozen_config)) == names
    assert frozen_core_bytes(skeleton, config) == pytest.approx(6.11 * 2**30, rel=0.01)
    assert tower_bytes(skeleton, plain)["VLM"] == 2 * 8_292_166_656
    assert tower_bytes(skeleton, config)["VLM"] == pytest.approx(5.49 * 2**30, rel=0.01)
