"""References joined to the image sequence as latents, as FLUX.1 Kontext does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline

from unified_model.denoiser import pack_latents, place_references
from unified_model.features import ReferenceLatents
from unified_model.loading import load_for_inference
from unified_model.model import UnifiedEditModel
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.references import reference_pixels
from unified_model.tiny import build_tiny

INSTRUCTIONS = ["Make it red", "Remove the large old boat", "Add a dog", "A red boat"]
HELD = (1, 2, 0, 3)
"""References of each row."""


@pytest.fixture(scope="module")
def kontext() -> UnifiedEditModel:
    return build_tiny(seed=0, takes_reference_latents=True)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def references(rows: list[int]) -> ReferenceLatents | None:
    """The references of some of four rows."""
    latents = noise(sum(HELD), 16, 4, 8, seed=1)
    chosen = [number for number, row in enumerate(np.repeat(range(4), HELD)) if row in rows]
    owners = [rows.index(row) for row in np.repeat(range(4), HELD) if row in rows]
    return ReferenceLatents(latents[chosen], torch.tensor(owners)) if chosen else None


def velocity(model: UnifiedEditModel, rows: list[int], given: ReferenceLatents | None) -> torch.Tensor:
    inputs = model.processor([INSTRUCTIONS[row] for row in rows], [[] for _ in rows])
    times = torch.tensor([0.2, 0.5, 0.7, 1.0])
    with torch.no_grad():
        return model.core(noise(4, 16, 6, 4)[rows], times[rows], model.features(inputs), None, given)


def test_a_row_padded_with_references_equals_the_row_alone(kontext: UnifiedEditModel) -> None:
    together = velocity(kontext, [0, 1, 2, 3], references([0, 1, 2, 3]))
    assert together.shape == (4, 16, 6, 4)
    for row in range(4):
        alone = velocity(kontext, [row], references([row]))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


def test_every_reference_and_its_place_matters(kontext: UnifiedEditModel) -> None:
    given = references([3])
    first = velocity(kontext, [3], given)
    assert not torch.equal(first, velocity(kontext, [3], None))
    for place in range(3):
        latents = given.latents.clone()
        latents[place] += 1
        assert not torch.allclose(first, velocity(kontext, [3], ReferenceLatents(latents, given.rows)), atol=1e-4)
    turned = ReferenceLatents(given.latents.flip(0), given.rows)
    assert not torch.allclose(first, velocity(kontext, [3], turned), atol=1e-5)


def test_references_stand_where_kontext_puts_them() -> None:
    given = references([0, 1, 2, 3])
    tokens, mask, ids = place_references(given, batch=4)
    published = FluxKontextPipeline._prepare_latent_image_ids(1, 2, 4, torch.device("cpu"), torch.float32)
    published[..., 0] = 1  # its pipeline gives the one reference this first coordinate
    assert torch.equal(ids[:8], published)
    assert ids[:, 0].tolist() == [1] * 8 + [2] * 8 + [3] * 8
    assert torch.equal(ids[8:16, 1:], published[:, 1:])
    assert mask.view(4, 3, 8).all(-1).tolist() == [[place < held for place in range(3)] for held in HELD]
    assert torch.equal(tokens[1, :16], pack_latents(given.latents[1:3]).flatten(0, 1))
    assert place_references(references([1]), batch=1)[1] is None


def test_the_model_remembers_that_it_takes_them(kontext: UnifiedEditModel, tmp_path: Path) -> None:
    kontext.save_pretrained(tmp_path / "whole")
    loaded = UnifiedEditModel.from_pretrained(tmp_path / "whole")
    assert loaded.takes_reference_latents
    loaded.save_core(tmp_path / "core")
    assert load_for_inference(tmp_path / "core").takes_reference_latents
    assert not build_tiny().takes_reference_latents


def test_an_edit_sees_the_pixels_of_its_references(kontext: UnifiedEditModel, tiny: UnifiedEditModel) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    edited = UnifiedEditPipeline(kontext)("Make it red", [picture], steps=2)
    assert not np.array_equal(edited, UnifiedEditPipeline(tiny)("Make it red", [picture], steps=2))
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None]
    assert torch.equal(reference_pixels([picture], 64, 48), pixels)
    given = kontext.reference_latents(pixels, torch.tensor([0]))
    assert torch.equal(given.latents, kontext.codec.encode(pixels / 127.5 - 1))
    assert tiny.reference_latents(pixels, torch.tensor([0])) is None
    assert kontext.reference_latents(pixels[:0], torch.zeros(0, dtype=torch.long)) is None


def test_references_keep_their_shapes_and_their_middle() -> None:
    stripes = np.zeros((40, 120, 3), np.uint8)
    stripes[:, 40:80] = 255  # the middle third is a white square
    assert (reference_pixels([stripes], 32, 32) == 255).all()
    assert reference_pixels([stripes, stripes[:8]], 16, 48).shape == (2, 3, 16, 48)
    assert reference_pixels([], 16, 48).shape == (0, 3, 16, 48)
