"""Which sample stands at which position of a run: pure, and the same for any number of ranks and workers.

The run is cut into blocks of R positions (`data.bucket_rows`), each of one bucket. Buckets take turns by blocks, in
the shares of their samples; inside a bucket data sets take turns by rows, in the shares of their weights; and what a
data set has in a bucket is taken in a permutation of its own in each epoch. Every share is held by counting
(`trainer.data.shares`), and every permutation answers for single places (`trainer.data.permutation`): so the sample at
a position follows from the position alone, in the middle of any epoch, without a table and without a walk there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from trainer.data.permutation import permuted
from trainer.data.shares import Shares, fractions

Samples = npt.NDArray[np.int64]

_BLOCKS_KEPT = 64


def step_positions(step: int, batch_size: int, accumulation: int, rank: int, ranks: int) -> list[list[int]]:
    """The positions that one rank takes at a step, one list for each micro-batch.

    Micro-batch a of rank r takes the batch_size positions from ((step * accumulation + a) * ranks + r) * batch_size, so
    the positions of a step are the same whenever batch_size * accumulation * ranks is.

    Args:
        step: counted from 0.
    """
    firsts = [((step * accumulation + micro) * ranks + rank) * batch_size for micro in range(accumulation)]
    return [list(range(first, first + batch_size)) for first in firsts]


@dataclass(frozen=True)
class Block:
    """Positions that follow each other in one bucket.

    Args:
        bucket: its number.
        samples: (R,) numbers of the samples.
    """

    bucket: int
    samples: Samples


class Order:
    """Position -> sample and bucket.

    Args:
        seed: the run's.
        buckets: (N,) the bucket of each sample.
        datasets: (N,) the data set of each sample.
        weights: relative weight of each data set, > 0.
        rows: R, the positions of a block.
    """

    def __init__(
        self,
        seed: int,
        buckets: npt.NDArray[np.uint8],
        datasets: npt.NDArray[np.uint8],
        weights: Sequence[float],
        rows: int,
    ) -> None:
        self._seed = seed
        self._rows = rows
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        # One pile for each bucket and data set that have samples together; a pile is a stretch of `_piled`.
        pile_of = buckets.astype(np.uint16) * np.uint16(len(weights)) + datasets
        self._piled = np.argsort(pile_of, kind="stable").astype(np.uint32)
        piles, sizes = np.unique(pile_of, return_counts=True)
        ends = np.cumsum(sizes)
        totals = np.bincount(datasets, minlength=len(weights))
        self._buckets: dict[int, _BucketPiles] = {}
        for pile, size, end in zip(piles.tolist(), sizes.tolist(), ends.tolist(), strict=True):
            bucket, dataset = divmod(pile, len(weights))
            share = fractions(weights)[dataset] * size / int(totals[dataset])
            self._buckets.setdefault(bucket, _BucketPiles([], [])).add(_Pile(dataset, end - size, size), share)
        self._numbers = sorted(self._buckets)
        self._turns = Shares(
            tuple(sum(self._buckets[number].shares, Fraction()) for number in self._numbers), f"{seed}/buckets"
        )
        self._shares = {
            number: Shares(tuple(piles.shares), f"{seed}/{number}/datasets") for number, piles in self._buckets.items()
        }

    def samples_at(self, positions: Sequence[int]) -> Samples:
        """The numbers (0 .. N - 1) of the samples at positions >= 0."""
        blocks = ((position, self.block(position // self._rows)) for position in positions)
        return np.array([block.samples[position % self._rows] for position, block in blocks], dtype=np.int64)

    def bucket_at(self, position: int) -> int:
        """The bucket at a position >= 0."""
        return self.block(position // self._rows).bucket

    def block(self, number: int) -> Block:
        """The block with positions [number * R, (number + 1) * R)."""
        known = self._blocks.get(number)
        if known is None:
            known = self._blocks[number] = self._draw(number)
            while len(self._blocks) > _BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        return known

    def _draw(self, number: int) -> Block:
        turn = int(self._turns.turns(number, 1)[0])
        bucket = self._numbers[turn]
        first = self._turns.before(number)[turn] * self._rows
        shares, piles = self._shares[bucket], self._buckets[bucket].piles
        owners, before = shares.turns(first, self._rows), shares.before(first)
        samples = np.empty(self._rows, dtype=np.int64)
        for member, pile in enumerate(piles):
            mine = np.flatnonzero(owners == member)
            if mine.size:
                samples[mine] = self._taken(bucket, pile, np.arange(before[member], before[member] + mine.size))
        return Block(bucket, samples)

    def _taken(self, bucket: int, pile: _Pile, draws: Samples) -> Samples:
        """The samples of the given draws (0, 1, ...) out of a pile, epoch after epoch."""
        epochs, places = np.divmod(draws, pile.size)
        samples = np.empty_like(draws)
        for epoch in np.unique(epochs).tolist():
            now = epochs == epoch
            key = f"{self._seed}/{pile.dataset}/{bucket}/{epoch}"
            samples[now] = self._piled[pile.start + permuted(key, pile.size, places[now])]
        return samples


@dataclass(frozen=True)
class _Pile:
    """The samples of one data set in one bucket: `_piled[start : start + size]`."""

    dataset: int
    start: int
    size: int


@dataclass(frozen=True)
class _BucketPiles:
    piles: list[_Pile]
    shares: list[Fraction]

    def add(self, pile: _Pile, share: Fraction) -> None:
        self.piles.append(pile)
        self.shares.append(share)
