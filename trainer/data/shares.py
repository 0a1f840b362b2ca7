"""Taking turns in given shares, so evenly that any stretch of turns keeps them, and without remembering earlier turns.

Turn n belongs to the member in whose part of the unit interval the fractional part of n / golden ratio + offset falls
(the additive recurrence of lowest discrepancy: Niederreiter, "Random Number Generation and Quasi-Monte Carlo Methods",
1992, chapter 3). Drawing at random would let a small share swing: of 1,000 turns a share of 1 % gets 10 +- 3; here it
gets 10 +- 1. How many of the first n turns a member had is a sum of floors, which Euclid's algorithm takes in log n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

_BITS = 40
_PERIOD = 1 << _BITS
"""The unit interval in whole numbers: shares are exact to 1e-12, and the turns repeat after 1e12."""
_STEP = 679_535_556_991
"""Odd, and next to _PERIOD / golden ratio."""


@dataclass(frozen=True)
class Shares:
    """Turns of several members.

    Args:
        weights: relative share of each member, > 0.
        key: names the sequence; another one starts elsewhere.
    """

    weights: tuple[Fraction, ...]
    key: str

    def turns(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """The members of the turns first .. first + count - 1: (count,), each in 0 .. members - 1."""
        numbers = np.arange(first, first + count, dtype=np.uint64)
        # Wraps around at 2^64, of which the period is a divisor.
        points = (numbers * np.uint64(_STEP) + np.uint64(self._offset)) & np.uint64(_PERIOD - 1)
        return np.searchsorted(self._ends[:-1], points.astype(np.int64), side="right").astype(np.int64)

    def before(self, turn: int) -> list[int]:
        """How many of the turns 0 .. turn - 1 each member had; adds up to `turn`."""
        below = [0, *(_points_below(turn, int(end), self._offset) for end in self._ends[:-1]), turn]
        return [high - low for low, high in pairwise(below)]

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        total = sum(self.weights)
        return np.array([int(end * _PERIOD / total) for end in accumulate(self.weights)], dtype=np.int64)

    @cached_property
    def _offset(self) -> int:
        return int.from_bytes(hashlib.blake2b(self.key.encode(), digest_size=8).digest(), "big") % _PERIOD


def fractions(weights: Sequence[float]) -> tuple[Fraction, ...]:
    """Weights as exact fractions, so that every machine draws the same bounds."""
    return tuple(Fraction(weight) for weight in weights)


def _points_below(turns: int, end: int, offset: int) -> int:
    """How many of the first `turns` points lie below `end`: a point's own floor is one higher than that of the point
    moved down by `end` exactly where it lies below."""
    # One period added, so that no term is negative.
    here = _floor_sum(turns, _PERIOD, _STEP, offset + _PERIOD)
    return here - _floor_sum(turns, _PERIOD, _STEP, offset + _PERIOD - end)


def _floor_sum(count: int, divisor: int, slope: int, start: int) -> int:
    """The sum of floor((slope * i + start) / divisor) over i = 0 .. count - 1, for numbers >= 0."""
    total = 0
    while count > 0:
        total += (count - 1) * count // 2 * (slope // divisor) + count * (start // divisor)
        slope, start = slope % divisor, start % divisor
        top = slope * count + start
        count, start = divmod(top, divisor)
        divisor, slope = slope, divisor
        if not divisor:
            break
    return total
