"""Near neighbours among 64-bit hashes, exactly and without comparing all with all: multi-index hashing.

Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index Hashing" (CVPR 2012). Two hashes within
distance r agree, in at least one of m bands of bits, up to floor(r / m) bits: by the pigeonhole principle no neighbour
is missed. Hashes are sorted by each band, every query looks at those with its own band value and with all values up to
floor(r / m) bits away, and the distance over all bits decides. With m = r + 1 bands one look a band is enough; fewer,
longer bands look more often and meet fewer strangers. m decides the time only, never the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import numpy as np
import numpy.typing as npt

BITS = 64
MAX_RADIUS = 16
"""Unrelated images come this near by chance only about once in 27,000 pairs; beyond, "near" means nothing."""
_CANDIDATES_AT_A_TIME = 1 << 21
_FAR = np.int64(2**62)

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Points:
    """Hashes to be compared, as columns. Shape legend: P points, n hashes a point.

    Args:
        hashes: (P, n) uint64; two points are near where all n are within the radius. The first one is indexed.
        group: (P,) uint64, < 2^31; only points of one group are compared.
        owner: (P,) int64, ascending: the row that a point belongs to.
    """

    hashes: U64
    group: U64
    owner: I64

    def __len__(self) -> int:
        return len(self.owner)

    def of(self, chosen: npt.NDArray[np.bool_] | I64 | slice) -> Points:
        """Some of the points."""
        return Points(self.hashes[chosen], self.group[chosen], self.owner[chosen])


@dataclass(frozen=True)
class Band:
    """Bits `shift` to `shift + width - 1` of a hash, and the values added (xor) to a query's own to look under."""

    shift: int
    width: int
    probes: U64

    def codes(self, points: Points) -> U64:
        """(P,) uint64: equal where group and band are equal."""
        mask = np.uint64((1 << self.width) - 1)
        return (points.group << np.uint64(32)) | ((points.hashes[:, 0] >> np.uint64(self.shift)) & mask)


def choose_bands(radius: int, count: int) -> list[Band]:
    """The bands that find neighbours within `radius` among about `count` hashes with the least work.

    Args:
        radius: 0 to `MAX_RADIUS`.
    """

    def work(bands: int) -> float:
        slack, width = radius // bands, min(32, BITS // bands)
        probes = sum(comb(width, bits) for bits in range(slack + 1))
        # Looking up a value costs about as much as comparing two strangers.
        return bands * probes * (2 + count / 2.0**width)

    best = min(range(max(2, -(-radius // 4)), radius + 2), key=work, default=2)
    return _bands(best, radius // best)


def nearest_owner(queries: Points, kept: Points, radius: int, rows: int) -> I64:
    """For each row, the first row in `kept` with a point near one of its points.

    Returns:
        (rows,) int64: owner x 256 + distance of the least such owner, and of its nearest point; negative where there is
        none. The distance of two points is the largest over their n hashes.
    """
    best = np.full(rows, _FAR)
    if len(queries) and len(kept):
        for band in choose_bands(radius, len(kept)):
            _look(queries, kept, radius, band, best)
    best[best == _FAR] = -1
    return best


def distances(left: U64, right: U64) -> npt.NDArray[np.uint8]:
    """Number of bits in which hashes differ, element by element."""
    return np.asarray(np.bitwise_count(left ^ right), np.uint8)


def _bands(count: int, slack: int) -> list[Band]:
    edges = [round(BITS * number / count) for number in range(count + 1)]
    bands = []
    for low, high in pairwise(edges):
        flips = [bits for flipped in range(slack + 1) for bits in combinations(range(high - low), flipped)]
        probes = np.array([sum(1 << bit for bit in bits) for bits in flips], np.uint64)
        bands.append(Band(low, high - low, probes))
    return bands


def _look(queries: Points, kept: Points, radius: int, band: Band, best: I64) -> None:
    """Lower `best` by what one band finds."""
    kept_codes = band.codes(kept)
    order = np.argsort(kept_codes, kind="stable")
    kept_codes = kept_codes[order]
    # From each place to the end of the run of equal codes that it stands in.
    last = np.flatnonzero(np.append(kept_codes[1:] != kept_codes[:-1], True))
    run_end = np.repeat(last + 1, np.diff(last, prepend=-1))
    own = band.codes(queries)
    # In order, so that looking up walks through memory instead of leaping about in it.
    turn = np.argsort(own, kind="stable")
    own = own[turn]
    for probe in band.probes:
        codes = own ^ probe
        start = np.searchsorted(kept_codes, codes)
        start[start == len(kept_codes)] = 0
        count = np.where(kept_codes[start] == codes, run_end[start] - start, 0)
        for number, place in _candidates(start, count):
            asking, found = turn[number], order[place]
            distance = distances(queries.hashes[asking, 0], kept.hashes[found, 0])
            near = distance <= radius
            asking, found, distance = asking[near], found[near], distance[near]
            for column in range(1, queries.hashes.shape[1]):
                other = distances(queries.hashes[asking, column], kept.hashes[found, column])
                near = other <= radius
                asking, found, distance = asking[near], found[near], np.maximum(distance[near], other[near])
            np.minimum.at(best, queries.owner[asking], kept.owner[found] * 256 + distance)


def _candidates(start: I64, count: I64) -> Iterator[tuple[I64, I64]]:
    """(query, place) for the count[query] places from start[query] on, of each query; a bounded number at a time."""
    asking = np.flatnonzero(count)
    begin, left = start[asking], count[asking]
    while len(asking):
        # Each query gives up to `share` places a turn, and queries take turns in blocks.
        share = max(1, _CANDIDATES_AT_A_TIME // len(asking))
        for block in range(0, len(asking), _CANDIDATES_AT_A_TIME):
            part = slice(block, block + _CANDIDATES_AT_A_TIME)
            taken = np.minimum(left[part], share)
            ends = np.cumsum(taken)
            within = np.arange(ends[-1]) - np.repeat(ends - taken, taken)
            yield np.repeat(asking[part], taken), np.repeat(begin[part], taken) + within
        begin, left = begin + share, left - share
        more = left > 0
        asking, begin, left = asking[more], begin[more], left[more]
