"""Held-out samples, edited: fixed samples, fixed seeds, so that the strips of two steps can be laid side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from schemas.masks import LATENT_STRIDE
from trainer.config.validation import ValidationConfig
from trainer.distributed import Ranks
from trainer.validation.copying import Mask, Picture, change_share, is_copy, mean_difference
from trainer.validation.held_out import HeldOut, HeldOutSample, shares
from trainer.validation.judges import Judges
from trainer.validation.similarity import psnr, ssim
from unified_model.model import UnifiedEditModel
from unified_model.pipeline import UnifiedEditPipeline, to_uint8
from unified_model.placement import Placement


@dataclass(frozen=True)
class EditFigures:
    """What one edit came to. Distances are mean absolute differences in 0..1; None where there is nothing to compare.

    Args:
        weights: `raw` or `ema`.
        key, instruction, area_bin, edited_fraction: of the sample.
        seed: of the starting noise.
        change_share: see `trainer.validation.copying.change_share`.
        is_copy: whether it counts as a copy of the reference.
        inside_to_target: distance to the target inside the edit.
        inside_psnr: peak signal-to-noise ratio against the target inside the edit, in dB.
        inside_ssim: structural similarity to the target inside the edit, in -1..1.
        inside_lpips, inside_clip: LPIPS distance and CLIP likeness to the target, where a judge was given.
        outside_to_reference: distance to the reference outside it.
    """

    weights: str
    key: str
    instruction: str
    area_bin: str
    edited_fraction: float
    seed: int
    change_share: float | None
    is_copy: bool | None
    inside_to_target: float | None
    inside_psnr: float | None
    inside_ssim: float | None
    inside_lpips: float | None
    inside_clip: float | None
    outside_to_reference: float | None

    def as_row(self) -> dict[str, Any]:
        """As a line of `edits.jsonl`."""
        return asdict(self)


@dataclass(frozen=True)
class Edit:
    """One edit: the sample's number among the held-out ones, the output as (H, W, 3) uint8, and its figures."""

    number: int
    output: Picture
    figures: EditFigures


def held_out_edits(
    held_out: HeldOut,
    model: UnifiedEditModel,
    validation: ValidationConfig,
    ranks: Ranks,
    weights: str,
    judges: Judges,
) -> list[Edit]:
    """Every sample of `held_out.edit_samples` with every seed, in that order, on every rank. A collective.

    Args:
        model: in evaluation mode, with the weights that edit.

    Raises:
        InputError: the same on every rank: a sample cannot be read any more.
    """
    # The device is told: under ZeRO-3 the parameters, which are elsewhere in pieces, may not tell it.
    pipeline = UnifiedEditPipeline(model, Placement(model, ranks.device))
    items = [(number, seed) for number in held_out.edit_samples for seed in validation.seeds]
    own: list[Edit] = []
    for place, counts in shares(range(len(items)), ranks.rank, ranks.world):
        number, seed = items[place]
        sample = ranks.together(lambda number=number: held_out.read(number))  # type: ignore[misc]
        height, width = sample.target.shape[:2]
        output = pipeline(
            sample.instruction,
            sample.references,
            height=height,
            width=width,
            steps=validation.sampling_steps,
            seed=seed,
            guidance=validation.guidance,
            text_guidance=validation.text_guidance,
            image_guidance=validation.image_guidance,
        )
        if counts:
            reference = _round_trip(model, sample.references[0], ranks.device) if sample.references else None
            target = _round_trip(model, sample.target, ranks.device)
            figures = edit_figures(sample, output, reference, target, seed, weights, validation, judges)
            own.append(Edit(number, output, figures))
    parts = ranks.gather(own)
    return [parts[place % ranks.world][place // ranks.world] for place in range(len(items))]


def edit_figures(
    sample: HeldOutSample,
    output: Picture,
    reference: Picture | None,
    target: Picture,
    seed: int,
    weights: str,
    validation: ValidationConfig,
    judges: Judges,
) -> EditFigures:
    """What an output comes to, against the first reference, where there is one, and the target as the latent codec
    gives them back."""
    edited = cell_pixels(sample.cells)
    share = None if reference is None else change_share(output, reference, target, edited)
    return EditFigures(
        weights=weights,
        key=sample.key,
        instruction=sample.instruction,
        area_bin=sample.area_bin,
        edited_fraction=sample.edited_fraction,
        seed=seed,
        change_share=share,
        is_copy=is_copy(share, validation.copy_threshold),
        inside_to_target=mean_difference(output, target, edited),
        inside_psnr=psnr(output, target, edited),
        inside_ssim=ssim(output, target, edited),
        inside_lpips=None if judges.lpips is None else judges.lpips(output, target, edited),
        inside_clip=None if judges.clip is None else judges.clip(output, target, edited),
        outside_to_reference=None if reference is None else mean_difference(output, reference, ~edited),
    )


def edit_summary(edits: Sequence[EditFigures]) -> dict[str, float]:
    """`copy_rate` (share of the edits that can be told), `edit_inside` (mean distance to the target inside the edit)
    and `edit_outside` (to the reference outside it); what has nothing to compare is left out."""
    columns: dict[str, list[float]] = {
        "copy_rate": [float(edit.is_copy) for edit in edits if edit.is_copy is not None],
        "edit_inside": [edit.inside_to_target for edit in edits if edit.inside_to_target is not None],
        "edit_outside": [edit.outside_to_reference for edit in edits if edit.outside_to_reference is not None],
    }
    return {name: float(np.mean(values)) for name, values in columns.items() if values}


def cell_pixels(cells: Mask) -> Mask:
    """(h, w) latent cells -> (8h, 8w) pixels, both bool."""
    return np.asarray(np.kron(cells, np.ones((LATENT_STRIDE, LATENT_STRIDE), np.bool_)), np.bool_)


def _round_trip(model: UnifiedEditModel, image: Picture, device: torch.device) -> Picture:
    """What the codec gives back of a picture."""
    pixels = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0).to(device).float() / 127.5 - 1.0
    decoded: Picture = to_uint8(model.codec.decode(model.codec.encode(pixels)))[0]
    return decoded
