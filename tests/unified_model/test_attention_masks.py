"""Padding through FLUX's own attention, in both dtypes that are trained in: what is masked is not there at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from unified_model.denoiser import FluxDenoiser
from unified_model.features import Conditioning, ReferenceLatents
from unified_model.model import UnifiedEditModel
from unified_model.tiny import CONTEXT_WIDTH, POOLED_WIDTH, build_tiny_flux

LENGTHS = (5, 12, 12)


@pytest.fixture(scope="module")
def denoiser() -> FluxDenoiser:
    torch.manual_seed(0)
    return FluxDenoiser(build_tiny_flux()).eval()


def conditioning(rows: slice, padding: float = 0.0, dtype: torch.dtype = torch.float32) -> Conditioning:
    """Rows of `LENGTHS` tokens, padded to the longest of them with `padding`; a mask only where one is padded."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(3, 12, CONTEXT_WIDTH, generator=generator)
    pooled = torch.randn(3, POOLED_WIDTH, generator=generator)
    longest = max(LENGTHS[rows])
    mask = torch.arange(longest) < torch.tensor(LENGTHS[rows])[:, None]
    tokens = torch.where(mask[..., None], tokens[rows, :longest], padding)
    return Conditioning(tokens.to(dtype), None if mask.all() else mask, pooled[rows].to(dtype))


def velocity(denoiser: FluxDenoiser, given: Conditioning, rows: slice) -> torch.Tensor:
    latents = torch.randn(3, 16, 6, 4, generator=torch.Generator().manual_seed(2))
    times = torch.tensor([0.2, 0.5, 0.9])
    return denoiser(latents[rows], times[rows], given)


def build_like(denoiser: FluxDenoiser, dtype: torch.dtype) -> Any:
    transformer = type(denoiser.transformer).from_config(denoiser.transformer.config)
    transformer.load_state_dict(denoiser.transformer.state_dict())
    return transformer.to(dtype).eval()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_what_stands_in_the_padding_changes_nothing(
    denoiser: FluxDenoiser, dtype: torch.dtype, tolerance: float
) -> None:
    every = slice(0, 3)
    denoiser = FluxDenoiser(build_like(denoiser, dtype))
    with torch.no_grad():
        together = velocity(denoiser, conditioning(every, dtype=dtype), every)
        assert torch.equal(together, velocity(denoiser, conditioning(every, 1e4, dtype), every))
        for row in range(3):
            one = slice(row, row + 1)
            alone = velocity(denoiser, conditioning(one, dtype=dtype), one)
            torch.testing.assert_close(together[one], alone, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_a_padded_row_are_those_of_the_row_alone(denoiser: FluxDenoiser, dtype: torch.dtype) -> None:
    def gradient(rows: slice, row: int) -> torch.Tensor:
        model = FluxDenoiser(build_like(denoiser, dtype))
        given = conditioning(rows, dtype=dtype)
        given.tokens.requires_grad_(True)
        velocity(model, given, rows)[row].square().sum().backward()
        assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)
        return given.tokens.grad[row]

    together, alone = gradient(slice(0, 3), 0), gradient(slice(0, 1), 0)[:5]
    assert not together[5:].any()
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(together[:5], alone, atol=tolerance * float(alone.abs().max()), rtol=0)


@pytest.fixture
def masks_seen(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor | None]:
    """The mask of every attention that torch computes."""
    seen: list[torch.Tensor | None] = []
    attention = functional.scaled_dot_product_attention

    def watched(*args: Any, attn_mask: torch.Tensor | None = None, **keywords: Any) -> torch.Tensor:
        seen.append(attn_mask)
        return attention(*args, attn_mask=attn_mask, **keywords)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    return seen


def test_without_padding_there_is_no_mask_anywhere(
    denoiser: FluxDenoiser, masks_seen: list[torch.Tensor | None]
) -> None:
    two = slice(1, 3)
    references = ReferenceLatents(torch.randn(4, 16, 4, 4), torch.tensor([0, 0, 1, 1]))
    latents, times = torch.randn(2, 16, 6, 4), torch.full((2,), 0.5)
    with torch.no_grad():
        denoiser(latents, times, conditioning(two))
        denoiser(latents, times, conditioning(two), None, references)
    assert len(masks_seen) == 2 * 4
    assert all(mask is None for mask in masks_seen)
    fewer = ReferenceLatents(references.latents[:3], references.rows[:3])
    with torch.no_grad():
        denoiser(latents, times, conditioning(two), None, fewer)
    assert [mask.shape for mask in masks_seen[8:]] == [(2, 1, 1, 12 + 6 + 2 * 4)] * 4
    assert masks_seen[-1].sum().item() == 2 * 26 - 4


def test_rows_of_one_length_are_conditioned_without_a_mask(tiny: UnifiedEditModel) -> None:
    inputs = tiny.processor(["Make it red", "Make it blue"], [[], []])
    assert tiny.core.conditioner(tiny.features(inputs)).mask is None
