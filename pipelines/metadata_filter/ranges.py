"""Cutting a file into partitions, and a partition into the rows that must be read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import pyarrow.parquet as pq

from pipelines.metadata_filter.skipping import Demand, reason_to_skip
from pipelines.metadata_filter.statistics import group_statistics

SHORTEST_GAP = 100_000
"""Rows: a shorter piece that could be left out between two others is read with them, which costs less than a query."""


@dataclass(frozen=True)
class Cut:
    """What of a partition is read.

    Args:
        ranges: of row numbers that are read, ascending, stop exclusive.
        skipped: reason -> rows that are not, since the statistics of their row group prove it.
        groups, groups_skipped: row groups that begin in the partition, and those of them that are not read.
    """

    ranges: tuple[tuple[int, int], ...]
    skipped: Mapping[str, int]
    groups: int
    groups_skipped: int


def group_starts(metadata: pq.FileMetaData) -> tuple[int, ...]:
    """The first row of each row group, and the number of rows."""
    rows = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    return tuple(accumulate(rows, initial=0))


def partition_ranges(starts: Sequence[int], wanted: int, may_cut: bool) -> Iterator[tuple[int, int]]:
    """Row ranges of at most `wanted` rows or one row group, none empty.

    Args:
        starts: of `group_starts`.
        may_cut: a row group of more than twice `wanted` is cut into pieces.
    """
    start = 0
    for low, high in pairwise(starts):
        if start < low and high - start > wanted:
            yield start, low
            start = low
        if may_cut and high - low > 2 * wanted:
            pieces = -(-(high - low) // wanted)
            for piece in range(pieces):
                yield low + (high - low) * piece // pieces, low + (high - low) * (piece + 1) // pieces
            start = high
    if start < starts[-1]:
        yield start, starts[-1]


def cut(metadata: pq.FileMetaData, start: int, stop: int, demands: list[Demand], places: Mapping[str, int]) -> Cut:
    """Leave out of rows [start, stop) what the statistics exclude.

    Args:
        demands: none to read every row.
        places: where the columns of `demands` stand in the footer.
    """
    starts = group_starts(metadata)
    reasons: list[tuple[int, int, str | None]] = []
    groups = 0
    for group, (low, high) in enumerate(pairwise(starts)):
        if low < stop and high > start and low < high:
            groups += low >= start
            reason = reason_to_skip(demands, group_statistics(metadata, group, places)) if demands else None
            reasons.append((max(low, start), min(high, stop), reason))
    reasons = _without_short_gaps(reasons)
    ranges: list[tuple[int, int]] = []
    skipped: dict[str, int] = {}
    for low, high, reason in reasons:
        if reason is not None:
            skipped[reason] = skipped.get(reason, 0) + high - low
        elif ranges and ranges[-1][1] == low:
            ranges[-1] = (ranges[-1][0], high)
        else:
            ranges.append((low, high))
    begun = [reason is not None for low, _, reason in reasons if low in starts]
    return Cut(tuple(ranges), skipped, groups, sum(begun))


def bytes_of_ranges(metadata: pq.FileMetaData, ranges: Sequence[tuple[int, int]], columns: Collection[str]) -> int:
    """Compressed bytes of the columns in rows [start, stop) of each range; of a row group cut by one, its share."""
    wanted = [
        place
        for place in range(metadata.num_columns)
        if metadata.schema.column(place).path.partition(".")[0] in columns
    ]
    total = 0.0
    for group, (low, high) in enumerate(pairwise(group_starts(metadata))):
        rows = sum(max(0, min(stop, high) - max(start, low)) for start, stop in ranges)
        if rows:
            chunks = (metadata.row_group(group).column(place) for place in wanted)
            total += sum(chunk.total_compressed_size for chunk in chunks) * rows / (high - low)
    return round(total)


def _without_short_gaps(reasons: list[tuple[int, int, str | None]]) -> list[tuple[int, int, str | None]]:
    """Read what could be skipped where it is a short piece between two that are read."""
    result = list(reasons)
    run: list[int] = []
    read_before = False
    for place, (_, _, reason) in enumerate(reasons):
        if reason is not None:
            run.append(place)
            continue
        if read_before and run and sum(reasons[at][1] - reasons[at][0] for at in run) < SHORTEST_GAP:
            for at in run:
                result[at] = (*reasons[at][:2], None)
        run, read_before = [], True
    return result
