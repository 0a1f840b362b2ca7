"""Which samples go into which shard: a pure function of their sizes.

Samples keep the input order. Shuffling while packing would spread neighbours over many shards, and with that make every
shard depend on every input partition: a worker would have to read the whole input to write one shard, and a restart
could not tell which shards a partition touches. Training order is the loader's business, which has an index to read at
random. So a shard is a run of consecutive samples, closed before it would pass either target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Piece:
    """Rows of one partition, in order.

    Args:
        partition: position of the partition in the input.
        rows: row numbers in the partition's table, ascending.
        sizes: bytes of each as tar members, headers and padding included.
    """

    partition: int
    rows: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class ShardPlan:
    """One shard: its number, counting from 0, and the pieces it is made of, in order."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def samples(self) -> int:
        """How many samples the shard holds."""
        return sum(len(piece.rows) for piece in self.pieces)


def cut(sizes: Sequence[int], most_items: int, most_bytes: int) -> list[range]:
    """Cut a sequence into runs, each closed before it would pass one of the two targets.

    Args:
        sizes: bytes of each item, >= 0.
        most_items, most_bytes: the targets, >= 1, inclusive. A single item above `most_bytes` is a run by itself.

    Returns:
        Non-empty consecutive ranges that cover `range(len(sizes))`.
    """
    runs: list[range] = []
    start, held = 0, 0
    for position, size in enumerate(sizes):
        if position > start and (position - start >= most_items or held + size > most_bytes):
            runs.append(range(start, position))
            start, held = position, 0
        held += size
    if start < len(sizes):
        runs.append(range(start, len(sizes)))
    return runs


def plan_shards(
    partitions: Sequence[tuple[Sequence[int], Sequence[int]]], samples_per_shard: int, bytes_per_shard: int
) -> list[ShardPlan]:
    """The shards for samples given partition by partition.

    Args:
        partitions: for each partition the row numbers to pack and, as long, the bytes of each.
        samples_per_shard, bytes_per_shard: the targets of `cut`.

    Returns:
        Plans numbered from 0; their pieces, in order, are exactly the rows given. The cut does not depend on where
        the partitions' borders are.
    """
    flat = [
        (number, row, size)
        for number, (rows, sizes) in enumerate(partitions)
        for row, size in zip(rows, sizes, strict=True)
    ]
    plans: list[ShardPlan] = []
    for run in cut([size for _, _, size in flat], samples_per_shard, bytes_per_shard):
        pieces = []
        for partition, entries in groupby(flat[run.start : run.stop], key=lambda entry: entry[0]):
            _, rows, sizes = zip(*entries, strict=True)
            pieces.append(Piece(partition, rows, sizes))
        plans.append(ShardPlan(len(plans), tuple(pieces)))
    return plans
