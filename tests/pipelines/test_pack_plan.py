"""Plans: every sample in exactly one shard, in order, within the targets, whatever the partitioning."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.pack.plan import cut, plan_shards

SIZES = st.lists(st.integers(0, 50), max_size=60)
TARGET = st.integers(1, 100)


@given(SIZES, TARGET, TARGET)
def test_runs_cover_everything_within_the_targets_and_are_not_closed_early(
    sizes: list[int], items: int, most: int
) -> None:
    runs = cut(np.array(sizes, np.int64), items, most)
    assert [position for run in runs for position in run] == list(range(len(sizes)))
    for run in runs:
        held = [sizes[position] for position in run]
        assert 1 <= len(held) <= items
        assert len(held) == 1 or sum(held) <= most
    for run in runs[:-1]:
        held = [sizes[position] for position in run]
        assert len(held) == items or sum(held) + sizes[run.stop] > most


@given(SIZES, TARGET, TARGET, st.lists(st.integers(0, 60), max_size=5))
def test_plans_hold_the_rows_in_order_and_ignore_partition_borders(
    sizes: list[int], items: int, most: int, borders: list[int]
) -> None:
    ends = [*sorted(min(border, len(sizes)) for border in borders), len(sizes)]
    starts = [0, *ends[:-1]]
    # Rows are numbered by their place in the whole, so that plans of any partitioning can be compared.
    rows = np.arange(len(sizes), dtype=np.int32)
    weights = np.array(sizes, np.int64)
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    partitions = np.repeat(np.arange(len(ends), dtype=np.int32), lengths)
    plans = plan_shards(partitions, rows, weights, items, most, "train")
    assert [(plan.subset, plan.number) for plan in plans] == [("train", number) for number in range(len(plans))]
    taken = [[row for piece in plan.pieces for row in piece.rows.tolist()] for plan in plans]
    whole = plan_shards(np.zeros_like(partitions), rows, weights, items, most)
    assert taken == [[row for piece in plan.pieces for row in piece.rows.tolist()] for plan in whole]
    assert [row for shard in taken for row in shard] == rows.tolist()
    for plan in plans:
        assert plan.samples == sum(len(piece.rows) for piece in plan.pieces) > 0
        numbers = [piece.partition for piece in plan.pieces]
        assert numbers == sorted(set(numbers))
        for piece in plan.pieces:
            assert set(partitions[piece.rows].tolist()) == {piece.partition}
            assert piece.sizes.tolist() == weights[piece.rows].tolist()
