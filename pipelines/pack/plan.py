"""Which samples go into which shard: a pure function of their sizes.

Samples keep the input order. Shuffling while packing would spread neighbours over many shards, and with that make every
shard depend on every input partition: a worker would have to read the whole input to write one shard, and a restart
could not tell which shards a partition touches. Training order is the loader's business, which has an index to read at
random. So a shard is a run of consecutive samples, closed before it would pass either target. Subsets are planned one
by one, and each numbers its own shards.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one partition, in order.

    Args:
        partition: position of the partition in the input.
        rows: row numbers in the partition's table, ascending.
        sizes: bytes of each as tar members, headers and padding included.
    """

    partition: int
    rows: Int32
    sizes: Int64


@dataclass(frozen=True, eq=False)
class ShardPlan:
    """One shard: its subset, or None; its number there, counting from 0; the pieces it is made of, in order."""

    subset: str | None
    number: int
    pieces: tuple[Piece, ...]

    @property
    def samples(self) -> int:
        """How many samples the shard holds."""
        return sum(len(piece.rows) for piece in self.pieces)


def cut(sizes: Int64, most_items: int, most_bytes: int) -> list[range]:
    """Cut a sequence into runs, each closed before it would pass one of the two targets.

    Args:
        sizes: bytes of each item, >= 0.
        most_items, most_bytes: the targets, >= 1, inclusive. A single item above `most_bytes` is a run by itself.

    Returns:
        Non-empty consecutive ranges that cover `range(len(sizes))`.
    """
    ends = np.cumsum(sizes, dtype=np.int64)
    runs: list[range] = []
    start, before = 0, 0
    while start < len(sizes):
        fitting = int(np.searchsorted(ends, before + most_bytes, side="right"))
        stop = min(max(fitting, start + 1), start + most_items, len(sizes))
        runs.append(range(start, stop))
        start, before = stop, int(ends[stop - 1])
    return runs


def plan_shards(
    partitions: Int32,
    rows: Int32,
    sizes: Int64,
    samples_per_shard: int,
    bytes_per_shard: int,
    subset: str | None = None,
) -> list[ShardPlan]:
    """The shards of one subset.

    Args:
        partitions, rows, sizes: of each sample, in input order: its partition (ascending), its row there (ascending in
            a partition), its bytes.
        samples_per_shard, bytes_per_shard: the targets of `cut`.

    Returns:
        Plans numbered from 0; their pieces, in order, are exactly the rows given. The cut does not depend on where
        the partitions' borders are.
    """
    plans: list[ShardPlan] = []
    for run in cut(sizes, samples_per_shard, bytes_per_shard):
        inside = slice(run.start, run.stop)
        borders = np.flatnonzero(np.diff(partitions[inside])) + 1 + run.start
        edges = [run.start, *borders.tolist(), run.stop]
        pieces = [Piece(int(partitions[start]), rows[start:stop], sizes[start:stop]) for start, stop in pairwise(edges)]
        plans.append(ShardPlan(subset, len(plans), tuple(pieces)))
    return plans
