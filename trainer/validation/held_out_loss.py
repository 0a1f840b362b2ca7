"""Held-out loss: the unweighted flow-matching error at fixed noise and nine fixed noise levels.

The noise of a sample follows from the seed and its key, and all its levels are computed on the same noise, so that two
models, two steps of one run or two sets of weights differ by what they have learnt and by nothing else. A pass holds
the levels of one sample: it is the same whatever the number of ranks, and so are its figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import torch

from trainer.distributed import Ranks
from trainer.loss.flow_matching import noised, velocity
from trainer.loss.region_loss import error_map
from trainer.validation.held_out import HeldOut, HeldOutSample, shares
from trainer.validation.loss_rows import LossRow
from trainer.validation.regions import split_errors
from unified_model.features import TensorBatch
from unified_model.model import UnifiedEditModel
from unified_model.references import reference_pixels

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""t, where 0 is the clean latent and 1 is noise."""

Predict = Callable[..., torch.Tensor]
"""As `EditCore.forward`: noisy latents, timesteps, features and `reference_latents` -> velocity."""

BatchT = TypeVar("BatchT", bound=TensorBatch)


def held_out_rows(
    held_out: HeldOut,
    model: UnifiedEditModel,
    predict: Predict,
    ranks: Ranks,
    weights: str,
    noise_seed: int = 0,
    levels_at_once: int = len(LEVELS),
    numbers: Sequence[int] | None = None,
    other_instruction: bool = False,
) -> list[LossRow]:
    """The rows of held-out samples, in their order, on every rank. A collective.

    Args:
        model: its towers and codec; in evaluation mode, without gradients (`trainer.validation.as_found`).
        predict: the engine around the model's core, or the core itself.
        weights: what the rows call the weights in force.
        numbers: which samples of `held_out.loss_samples`; None takes all.
        other_instruction: each sample with the instruction of another (`HeldOut.read_with_other_instruction`).

    Raises:
        InputError: the same on every rank: a sample cannot be read any more.
    """
    chosen = held_out.loss_samples if numbers is None else numbers
    read = held_out.read_with_other_instruction if other_instruction else held_out.read
    own: list[list[LossRow]] = []
    for number, counts in shares(chosen, ranks.rank, ranks.world):
        sample = ranks.together(lambda number=number: read(number))  # type: ignore[misc]
        rows = sample_rows(sample, model, predict, ranks.device, weights, noise_seed, levels_at_once)
        if counts:
            own.append(rows)
    parts = ranks.gather(own)
    return [
        row
        for place in range(len(chosen))
        for row in parts[place % ranks.world][place // ranks.world]
    ]  # fmt: skip


def sample_rows(
    sample: HeldOutSample,
    model: UnifiedEditModel,
    predict: Predict,
    device: torch.device,
    weights: str,
    noise_seed: int = 0,
    levels_at_once: int = len(LEVELS),
) -> list[LossRow]:
    """One row for each of `LEVELS`."""
    latents = model.codec.encode(sample.pixels.to(device))
    inputs = sample.inputs.to(device, copy=True)
    features = model.features(inputs)
    pixels = reference_pixels(sample.references, *sample.target.shape[:2]).to(device)
    references = model.reference_latents(pixels, inputs.image_rows)
    noise = fixed_noise(noise_seed, sample.key, latents.shape[1:]).to(device)
    rows = []
    for start in range(0, len(LEVELS), levels_at_once):
        levels = LEVELS[start : start + levels_at_once]
        times = torch.tensor(levels, dtype=torch.float32, device=device)
        many = latents.expand(len(levels), -1, -1, -1)
        beside = None if references is None else repeated(references, len(levels))
        prediction = predict(
            noised(many, noise, times), times, repeated(features, len(levels)), reference_latents=beside
        )
        errors = error_map(prediction, velocity(many, noise))
        split = split_errors(errors, sample.cell_map.to(device).expand(len(levels), -1, -1, -1))
        figures = {
            f"{region}_{kind}": values.tolist()
            for region, pair in split.items()
            for kind, values in zip(("sum", "count"), pair, strict=True)
        }
        rows += [
            LossRow(
                weights=weights,
                key=sample.key,
                area_bin=sample.area_bin,
                edited_fraction=sample.edited_fraction,
                level=level,
                **{name: values[place] for name, values in figures.items()},
            )
            for place, level in enumerate(levels)
        ]
    return rows


def fixed_noise(seed: int, key: str, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise that depends on the seed and the sample's key only: (1, C, h, w) float32 on the CPU."""
    digest = hashlib.blake2b(f"{seed}/{key}/held-out".encode(), digest_size=8).digest()
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(int.from_bytes(digest, "big")))


def repeated(batch: BatchT, times: int) -> BatchT:
    """A batch of one row as a batch of `times` equal rows."""
    values: dict[str, Any] = {}
    for field in fields(batch):  # type: ignore[arg-type]
        value = getattr(batch, field.name)
        if value is None:
            values[field.name] = None
        elif field.name.endswith("rows"):
            # Which row each image belongs to: all of them to row 0 so far.
            values[field.name] = torch.arange(times, device=value.device).repeat_interleave(len(value))
        else:
            values[field.name] = value.repeat(times, *[1] * (value.ndim - 1))
    return type(batch)(**values)
