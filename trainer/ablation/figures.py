"""From rows of held-out loss to one figure for each arm, seed and item. Pure.

Shape legend: S seeds; I items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import InputError

Values = npt.NDArray[np.float64]


def loss_by_item(
    rows: pa.Table, region: str, bins: Sequence[str] | None, weights: str, arms: Sequence[str], seeds: Sequence[int]
) -> dict[str, Values]:
    """The mean squared error of every item in a region, over all its noise levels.

    Args:
        rows: columns arm, seed and those of `trainer.validation.loss_rows.LOSS_SCHEMA`.
        region: inside, outside or border.
        bins: edited-area bins of the items to take; None takes all.
        weights: `raw` or `ema`.

    Returns:
        arm -> (S, I), seeds in the order given, items in the order of their keys; items without a cell in the region
        are left out. I may be 0.

    Raises:
        InputError: an arm and seed lacks an item that another has.
    """
    kept = rows.filter(pc.equal(rows["weights"], weights))
    if bins is not None:
        kept = kept.filter(pc.is_in(kept["area_bin"], pa.array(list(bins), pa.string())))
    sums = kept.group_by(["arm", "seed", "key"]).aggregate([(f"{region}_sum", "sum"), (f"{region}_count", "sum")])
    sums = sums.filter(pc.greater(sums[f"{region}_count_sum"], 0))
    means = pc.divide(sums[f"{region}_sum_sum"], pc.cast(sums[f"{region}_count_sum"], pa.float64()))
    return arrange(sums["arm"], sums["seed"], sums["key"], means, arms, seeds)


def arrange(
    arm: pa.ChunkedArray,
    seed: pa.ChunkedArray,
    key: pa.ChunkedArray,
    values: pa.ChunkedArray,
    arms: Sequence[str],
    seeds: Sequence[int],
) -> dict[str, Values]:
    """One value for each arm, seed and key, as arm -> (S, I), keys ascending.

    Raises:
        InputError: a value is missing.
    """
    keys = {name: place for place, name in enumerate(sorted(set(key.to_pylist())))}
    found = {name: np.full((len(seeds), len(keys)), np.nan) for name in arms}
    rows = {number: place for place, number in enumerate(seeds)}
    for name, number, item, value in zip(
        arm.to_pylist(), seed.to_pylist(), key.to_pylist(), values.to_pylist(), strict=True
    ):
        if name in found and number in rows:
            found[name][rows[number], keys[item]] = value
    for name, array in found.items():
        if np.isnan(array).any():
            seed_row, item_column = np.argwhere(np.isnan(array))[0]
            raise InputError(
                f"arm {name}, seed {seeds[seed_row]}",
                sorted(keys)[item_column],
                "was measured in other runs and not in this one",
                "Delete this run's folder and start the ablation again.",
            )
    return found
