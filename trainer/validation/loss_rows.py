"""Rows of held-out loss, and the figures they come to. Pure; a row stands for one sample at one noise level.

Sums and counts are kept instead of means, so that rows can be pooled, and drawn anew by a bootstrap, without error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

import pyarrow as pa

from trainer.validation.bins import AREA_BINS
from trainer.validation.regions import REGIONS


@dataclass(frozen=True)
class LossRow:
    """The unweighted flow-matching error of one held-out sample at one noise level.

    Args:
        weights: `raw` or `ema`.
        key: of the sample.
        area_bin: a key of `trainer.validation.bins.AREA_BINS`.
        edited_fraction: of the stored mask at full resolution, in 0..1.
        level: t, where 0 is the clean latent and 1 is noise.
        inside_sum, inside_count: squared error (mean over channels) summed over the latent cells of the edit, and
            their number.
        outside_sum, outside_count: of the other cells.
        border_sum, border_count: of the band of one cell to each side of the edit's edge.
    """

    weights: str
    key: str
    area_bin: str
    edited_fraction: float
    level: float
    inside_sum: float
    inside_count: int
    outside_sum: float
    outside_count: int
    border_sum: float
    border_count: int


_ALL_CELLS = ("inside", "outside")
_KINDS = {"str": pa.string(), "float": pa.float64(), "int": pa.int64()}
LOSS_SCHEMA = pa.schema(
    [pa.field("step", pa.int64())] + [pa.field(field.name, _KINDS[str(field.type)]) for field in fields(LossRow)]
)
"""Of `loss.parquet`: the optimizer steps done, and a `LossRow`."""


def loss_table(rows: Iterable[LossRow], step: int) -> pa.Table:
    """Rows as a table of `LOSS_SCHEMA`, in their order."""
    columns = list(zip(*((step, *astuple(row)) for row in rows), strict=True)) or [()] * len(LOSS_SCHEMA)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, LOSS_SCHEMA, strict=True)],
                    schema=LOSS_SCHEMA)  # fmt: skip


def loss_figures(rows: Iterable[LossRow]) -> dict[str, float]:
    """The mean errors that the rows of one set of weights come to, over all latent cells of a kind together.

    Returns:
        `loss`; `loss_inside`, `loss_outside`, `loss_border`; `loss_t0.1` and so on for each noise level;
        `loss_inside_under_1`, `loss_outside_under_1`, ... for each region and bin of the edited area. What has no cell
        is left out.
    """
    kept = list(rows)
    figures = {"loss": _mean(kept, _ALL_CELLS)}
    for region in REGIONS:
        figures[f"loss_{region}"] = _mean(kept, (region,))
    for level in sorted({row.level for row in kept}):
        figures[f"loss_t{level:g}"] = _mean([row for row in kept if row.level == level], _ALL_CELLS)
    for name in AREA_BINS:
        of_bin = [row for row in kept if row.area_bin == name]
        for region in REGIONS:
            figures[f"loss_{region}_{name}"] = _mean(of_bin, (region,))
    return {name: value for name, value in figures.items() if value is not None}


def instruction_gain(own: Iterable[LossRow], other: Iterable[LossRow]) -> dict[str, float]:
    """`instruction_gain`: by which share the loss inside the edit is lower with a sample's own instruction than with
    another's, over the samples that were taken with both. 0 where the model does not heed its instruction; left out
    where nothing was taken with both.

    Args:
        own, other: rows of one set of weights.
    """
    others = list(other)
    keys = {row.key for row in others}
    right, wrong = _mean([row for row in own if row.key in keys], ("inside",)), _mean(others, ("inside",))
    return {"instruction_gain": 1.0 - right / wrong} if right is not None and wrong else {}


def _mean(rows: Sequence[LossRow], regions: Sequence[str]) -> float | None:
    count = sum(getattr(row, f"{name}_count") for row in rows for name in regions)
    # fsum is exact, so that the order of the rows, and with it the number of ranks, cannot matter.
    return math.fsum(getattr(row, f"{name}_sum") for row in rows for name in regions) / count if count else None
