"""LPIPS and CLIP of a region, with weights written in their published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from schemas.errors import InputError
from trainer.config.validation import ValidationConfig
from trainer.validation.judges import Judges, around
from trainer.validation.lpips import BACKBONE, CHANNELS, Lpips


def published(folder: Path) -> Path:
    """Random weights under the names of torchvision's AlexNet and of the package lpips."""
    torch.manual_seed(0)
    layers = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    backbone = {"classifier.1.weight": torch.zeros(2, 2)}
    for place, (out, into, side) in layers.items():
        backbone[f"features.{place}.weight"] = torch.randn(out, into, side, side) * (2 / (into * side * side)) ** 0.5
        backbone[f"features.{place}.bias"] = torch.zeros(out)
    torch.save(backbone, folder / BACKBONE)
    widths = enumerate(out for out, *_ in layers.values())
    torch.save({f"lin{place}.model.1.weight": torch.rand(1, n, 1, 1) for place, n in widths}, folder / CHANNELS)
    return folder


def scene(side: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), np.bool_)
    mask[8:24, 16:40] = True
    other = one.copy()
    other[mask] = 255 - other[mask]
    return one, other, mask


def test_lpips_grows_with_what_is_wrong_and_sees_the_region_alone(tmp_path: Path) -> None:
    metric = Lpips.load(published(tmp_path))
    one, other, mask = scene()
    half = ((one.astype(np.uint16) + other) // 2).astype(np.uint8)
    assert metric(one, one, mask) == 0.0
    wrong, less = metric(one, other, mask), metric(one, half, mask)
    assert wrong is not None and less is not None and wrong > less > 0.0
    inside, outside = metric(one, other, mask), metric(one, other, ~mask)
    assert inside is not None and outside is not None and inside > 2 * outside
    assert metric(one, other, np.zeros_like(mask)) is None


def test_missing_and_other_weights_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=BACKBONE):
        Lpips.load(tmp_path)
    torch.save({"features.0.weight": torch.zeros(1)}, published(tmp_path) / BACKBONE)
    with pytest.raises(InputError, match="other weights"):
        Lpips.load(tmp_path)


def test_clip_looks_at_the_edit_with_the_model_that_the_config_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=16))
    model.save_pretrained(tmp_path)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    validation = ValidationConfig(shards=["a"], clip=str(tmp_path))
    clip = Judges.load(validation, torch.device("cpu")).clip
    one, other, mask = scene()
    assert clip is not None and clip(one, one, mask) == pytest.approx(1.0)
    edited = clip(one, other, mask)
    assert edited is not None and edited < 0.999
    far = one.copy()
    far[40:] = 0
    assert clip(one, far, mask) == pytest.approx(1.0)


def test_the_square_around_an_edit_lies_inside_the_picture_and_holds_it() -> None:
    mask = np.zeros((40, 100), np.bool_)
    mask[39, 99] = True
    assert around(mask) == (slice(30, 40), slice(90, 100))
    mask[:, 20:] = True
    assert around(mask) == (slice(0, 40), slice(20, 100))
