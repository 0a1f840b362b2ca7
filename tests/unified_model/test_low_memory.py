"""Parts that take turns on a device, and weights in 8 or 4 bits: what a CPU can show of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from schemas.errors import ConfigError, InputError
from unified_model import assembly, extras, placement
from unified_model.footprint import VLM_IN_FULL, edit_footprint, stored_bytes
from unified_model.model import UnifiedEditModel
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.placement import Offload, Placement, movable
from unified_model.quantisation import Quantisation, is_quantised
from unified_model.skeleton import release_skeleton

PICTURE = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(64, 48, 3)


def edited(pipeline: UnifiedEditPipeline) -> np.ndarray:
    return pipeline("make it red", [PICTURE], height=32, width=32, steps=2, text_guidance=2.0)


@pytest.mark.parametrize("offload", ["parts", "blocks"])
def test_offloaded_parts_make_the_same_image(tiny_folder: Path, offload: Offload) -> None:
    plain = edited(UnifiedEditPipeline.from_pretrained(tiny_folder))
    ours = edited(UnifiedEditPipeline.from_pretrained(tiny_folder, offload=offload))
    assert np.abs(ours.astype(int) - plain).max() <= 1


def test_one_part_at_a_time_is_on_the_device(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = UnifiedEditPipeline.from_pretrained(tiny_folder, offload="parts")
    there: set[str] = set()
    most: list[set[str]] = []
    plain = placement.fetched

    @contextmanager
    def fetched(parts: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
        names = {type(part).__name__ for part in parts}
        there.update(names)
        most.append(set(there))
        with plain(parts, device):
            yield
        there.difference_update(names)

    monkeypatch.setattr(placement, "fetched", fetched)
    edited(pipeline)
    assert not there
    assert {"QwenSiglipTower", "MlpConditioner", "FluxDenoiser", "LatentCodec"} <= set().union(*most)
    assert all(len(parts - {"TextEncoders"}) <= 1 for parts in most)


def test_parts_come_back_to_the_memory_they_were_in(tiny: UnifiedEditModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy stands for the device's memory; after an error, too."""
    waiting = {name: value.data_ptr() for name, value in tiny.codec.state_dict().items()}
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor.clone())

    def places() -> dict[str, int]:
        return {name: value.data_ptr() for name, value in tiny.codec.state_dict().items()}

    with pytest.raises(KeyError), placement.fetched([tiny.codec], torch.device("cpu")):
        assert not set(places().values()) & set(waiting.values())
        raise KeyError
    assert places() == waiting


def test_the_vlm_in_8_bits_says_nearly_the_same(tiny: UnifiedEditModel, tiny_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    pipeline = UnifiedEditPipeline.from_pretrained(tiny_folder, quantise_vlm="8bit", offload="parts")
    vlm = pipeline.model.tower.vlm
    assert is_quantised(vlm) and not is_quantised(pipeline.model.tower.siglip)
    layer = vlm.model.language_model.layers[0].self_attn.q_proj
    assert layer.weight.dtype == torch.int8
    inputs = tiny.processor(["make it red"], [[PICTURE]])
    ours, theirs = pipeline.model.features(inputs).vlm_states, tiny.features(inputs).vlm_states
    assert 0 < (ours - theirs).abs().mean() < 0.05 * theirs.abs().mean()
    assert edited(pipeline).shape == (32, 32, 3)
    assert movable(pipeline.model.tower, is_quantised) == [pipeline.model.tower.siglip]


def test_what_the_libraries_are_told(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    told: dict[str, dict[str, Any]] = {}
    plain = assembly.load_component

    def load(component: Any, source: str, **keywords: Any) -> Any:
        told[component.__name__] = keywords
        kept = {name: value for name, value in keywords.items() if name not in ("quantization_config", "device_map")}
        return plain(component, source, **kept)

    monkeypatch.setattr(assembly, "load_component", load)
    UnifiedEditModel.from_pretrained(tiny_folder, torch.bfloat16, Quantisation("8bit", "4bit", "cuda:1"))
    vlm, transformer = told["Qwen2_5_VLForConditionalGeneration"], told["FluxTransformer2DModel"]
    assert vlm["quantization_config"].load_in_8bit and vlm["device_map"] == {"": "cuda:1"}
    four = transformer["quantization_config"]
    assert four.load_in_4bit and four.bnb_4bit_quant_type == "nf4" and four.bnb_4bit_use_double_quant
    assert four.bnb_4bit_compute_dtype == torch.bfloat16 and "x_embedder" in four.llm_int8_skip_modules
    assert "quantization_config" not in told["SiglipVisionModel"] | told["AutoencoderKL"]


def test_what_cannot_be_is_told_before_anything_is_loaded(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        UnifiedEditPipeline.from_pretrained(tiny_folder, quantise_transformer="4bit")
    model = UnifiedEditModel.from_pretrained(tiny_folder)
    monkeypatch.setattr(model.core.denoiser.transformer, "is_quantized", True, raising=False)
    with pytest.raises(ConfigError, match="does not go with"):
        Placement(model, "cpu", "blocks")
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "bitsandbytes" else util.find_spec(name))
    with pytest.raises(InputError, match=r"\[low-memory\]"):
        UnifiedEditPipeline.from_pretrained(tiny_folder, quantise_vlm="4bit")


def test_the_bytes_told_are_those_of_the_weights(tiny: UnifiedEditModel, tiny_folder: Path) -> None:
    def held(module: nn.Module) -> int:
        return sum(value.numel() * value.element_size() for value in module.parameters())

    whole = held(tiny.tower) + held(tiny.core) + held(tiny.codec)
    pooled = tiny.core.conditioner.pooled.numel() * 4
    assert edit_footprint(tiny).peak == whole
    parts = edit_footprint(tiny, "parts")
    assert parts.stays == 0 and parts.peak == max(held(tiny.tower), held(tiny.core.denoiser)) > pooled
    blocks = edit_footprint(tiny, "blocks").moments["DiT"]
    assert held(tiny.core.denoiser.transformer.transformer_blocks) < blocks < held(tiny.core.denoiser)
    pytest.importorskip("bitsandbytes")
    model = UnifiedEditModel.from_pretrained(tiny_folder, quantisation=Quantisation("8bit"))
    assert stored_bytes(tiny.tower.vlm, "8bit", VLM_IN_FULL) == held(model.tower.vlm)
    assert edit_footprint(tiny, "parts", "8bit", "8bit").stays > held(model.tower.vlm)


def test_release_size_fits_where_the_manual_says() -> None:
    """GiB of weights in bf16, as docs/editing.md has them."""
    skeleton = release_skeleton(torch.bfloat16)

    def gib(*options: Any) -> float:
        return round(edit_footprint(skeleton, *options).peak / 2**30, 1)

    assert [gib(), gib("parts"), gib("blocks"), gib("blocks", "4bit"), gib("none", "4bit", "4bit")] == [
        38.9, 22.2, 16.2, 6.9, 12.6
    ]  # fmt: skip
