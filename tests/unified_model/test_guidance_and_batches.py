"""Classifier-free guidance, and several edits at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from unified_model.codec import LatentCodec
from unified_model.guidance import guidance_passes
from unified_model.model import UnifiedEditModel
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.requests import EditRequest

scales = st.floats(0, 20)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(scales, scales)
def test_passes_follow_the_published_equation(text: float, image: float) -> None:
    passes = guidance_passes(text, image)
    assert sum(one.weight for one in passes) == pytest.approx(1, abs=1e-9)
    velocities = {(False, False): 0.3, (False, True): -1.7, (True, True): 4.1}
    nothing, seen, full = velocities.values()
    expected = nothing + image * (seen - nothing) + text * (full - seen)
    assert sum(one.weight * velocities[one.text, one.images] for one in passes) == pytest.approx(expected, abs=1e-6)


def test_a_pass_is_run_only_where_it_counts() -> None:
    assert [(one.text, one.images) for one in guidance_passes(1, 1)] == [(True, True)]
    assert [(one.text, one.images) for one in guidance_passes(4, 1)] == [(True, True), (False, True)]
    assert [(one.text, one.images) for one in guidance_passes(2, 2)] == [(True, True), (False, False)]
    assert len(guidance_passes(4, 1.5)) == 3
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError):
            guidance_passes(wrong, 1)
        with pytest.raises(ConfigError):
            guidance_passes(1, wrong)


@pytest.mark.parametrize("takes_reference_latents", [False, True])
def test_a_guided_step_is_the_weighted_sum_of_plain_ones(
    tiny: UnifiedEditModel, monkeypatch: pytest.MonkeyPatch, takes_reference_latents: bool
) -> None:
    """One Euler step is linear in the velocity: the latents show which prompts and images every pass had."""
    monkeypatch.setattr(tiny, "takes_reference_latents", takes_reference_latents)
    pipeline, seen, decode = UnifiedEditPipeline(tiny), [], LatentCodec.decode
    monkeypatch.setattr(LatentCodec, "decode", lambda codec, latents: (seen.append(latents), decode(codec, latents))[1])

    def latents(**scales: float) -> torch.Tensor:
        pipeline("make it red", [picture(64, 64)], steps=1, height=32, width=32, **scales)
        return seen[-1]

    full, nothing = latents(), latents(text_guidance=0, image_guidance=0)
    image_only = latents(text_guidance=0, image_guidance=1)
    for one, other in ((full, nothing), (full, image_only), (nothing, image_only)):
        assert not torch.allclose(one, other, atol=1e-3)
    guided = latents(text_guidance=3.0, image_guidance=1.5)
    expected = nothing + 1.5 * (image_only - nothing) + 3.0 * (full - image_only)
    torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("takes_reference_latents", [False, True])
def test_a_batch_gives_the_images_of_its_rows(
    tiny: UnifiedEditModel, monkeypatch: pytest.MonkeyPatch, takes_reference_latents: bool
) -> None:
    monkeypatch.setattr(tiny, "takes_reference_latents", takes_reference_latents)
    pipeline = UnifiedEditPipeline(tiny)
    requests = [
        EditRequest("make it red", [picture(64, 48, 1)], 5, 64, 48),
        EditRequest("put the second picture into the first, on the left", [picture(64, 48, 2), picture(40, 90, 3)], 6),
        EditRequest("a blue house", [], 5, 64, 48),
    ]
    options = {"steps": 2, "text_guidance": 2.0, "image_guidance": 1.2}
    together = pipeline.edit(requests, **options)
    for request, image in zip(requests, together, strict=True):
        (alone,) = pipeline.edit([request], **options)
        assert image.shape == alone.shape == (64, 48, 3)
        assert np.abs(image.astype(int) - alone.astype(int)).max() <= 1
    assert not np.array_equal(together[0], together[1])


def test_a_batch_has_one_size(tiny: UnifiedEditModel) -> None:
    requests = [EditRequest("x", [picture(64, 48)]), EditRequest("x", [picture(48, 64)])]
    with pytest.raises(ConfigError, match="one size"):
        UnifiedEditPipeline(tiny).edit(requests, steps=1)
    with pytest.raises(ConfigError, match="one size"):
        UnifiedEditPipeline(tiny).edit([], steps=1)
