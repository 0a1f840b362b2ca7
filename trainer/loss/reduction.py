"""The one place where the loss is reduced: a sum and a count over samples, micro-batches and ranks.

Every rank divides its own sum by the count of the whole global batch, so that the result is the same however the
samples are spread; a mean of means would not be, where ranks hold different numbers of usable samples.
Shape legend: B samples; h, w latent cells. `usable` (B,) bool marks the samples that count (a sample that could not be
read keeps its place in the batch, and counts nowhere).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from schemas.masks import MaskStatus
from trainer.config import WeightingConfig

STATUSES = (*(status.value for status in MaskStatus), "none")
"""Mask statuses of samples; `none` is an image with a caption, which has no mask."""


def global_count(
    weights: Sequence[torch.Tensor], usable: Sequence[torch.Tensor], weighting: WeightingConfig
) -> torch.Tensor:
    """This rank's share of the loss's denominator for one optimizer step; add it up over the ranks.

    Args:
        weights: the (B, 1, h, w) weights of each micro-batch.
        usable: the (B,) bool of each micro-batch.

    Returns:
        0-dimensional float64: the number of usable latent cells, or with `normalise: per_batch` the sum of their
        weights.
    """
    total = torch.zeros((), dtype=torch.float64)
    for maps, keep in zip(weights, usable, strict=True):
        kept = maps[keep]
        total += kept.double().sum() if weighting.normalise == "per_batch" else float(kept.numel())
    return total


def local_objective(errors: torch.Tensor, weights: torch.Tensor, usable: torch.Tensor, count: float) -> torch.Tensor:
    """This micro-batch's part of the loss: its weighted sum over the global count. Parts add up to the loss.

    Args:
        errors: (B, 1, h, w) float32 with gradient.
        weights: (B, 1, h, w) float32.
        count: `global_count` summed over the ranks, > 0.

    Returns:
        0-dimensional float32 with gradient.
    """
    kept = torch.where(usable.view(-1, 1, 1, 1), errors * weights, torch.zeros_like(errors))
    return kept.sum() / count


def sums(
    errors: torch.Tensor,
    weights: torch.Tensor,
    cells: torch.Tensor,
    usable: torch.Tensor,
    statuses: Sequence[str],
) -> torch.Tensor:
    """What `LossReport` is made of, for one micro-batch; add it up over micro-batches and ranks.

    Args:
        errors, weights: (B, 1, h, w) float32.
        cells: (B, 1, h, w) bool, True = edited.
        statuses: B mask statuses, each one of `STATUSES` where the sample is usable.

    Returns:
        (8 + number of statuses,) float64: weighted error, error, cells, weights; weighted error, error and cells inside
        the edit; samples; and the samples of each of `STATUSES`.
    """
    errors, weights, cells = errors.detach()[usable].double(), weights[usable].double(), cells[usable]
    weighted = errors * weights
    totals = [
        weighted.sum(),
        errors.sum(),
        torch.tensor(float(errors.numel()), dtype=torch.float64, device=errors.device),
        weights.sum(),
        weighted[cells].sum(),
        errors[cells].sum(),
        cells.sum().double(),
        usable.sum().double(),
    ]
    kept = [status for status, keep in zip(statuses, usable.tolist(), strict=True) if keep]
    counts = torch.tensor([kept.count(status) for status in STATUSES], dtype=torch.float64, device=errors.device)
    return torch.cat((torch.stack(totals), counts))


@dataclass(frozen=True)
class LossReport:
    """The loss of one optimizer step over the global batch.

    Args:
        loss: what was minimised.
        plain: the unweighted mean squared error.
        mean_weight: mean weight of a latent cell.
        share_inside: share of the loss that comes from edited cells, in [0, 1]; 0 where the loss is 0.
        inside, outside: unweighted mean squared error in and out of the edit; None where there are no such cells.
        samples: usable samples.
        statuses: mask status -> its share of the samples, in (0, 1]; those of no sample are left out.
    """

    loss: float
    plain: float
    mean_weight: float
    share_inside: float
    inside: float | None
    outside: float | None
    samples: int
    statuses: dict[str, float]


def report(total: torch.Tensor, weighting: WeightingConfig) -> LossReport:
    """The report from `sums` added up over the global batch, of which at least one sample is usable."""
    weighted, plain, cells, weights, weighted_inside, inside, inside_cells, samples, *counts = total.tolist()
    outside_cells = cells - inside_cells
    return LossReport(
        loss=weighted / (weights if weighting.normalise == "per_batch" else cells),
        plain=plain / cells,
        mean_weight=weights / cells,
        share_inside=weighted_inside / weighted if weighted else 0.0,
        inside=inside / inside_cells if inside_cells else None,
        outside=(plain - inside) / outside_cells if outside_cells else None,
        samples=int(samples),
        statuses={status: count / samples for status, count in zip(STATUSES, counts, strict=True) if count},
    )
