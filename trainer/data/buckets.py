"""Aspect buckets at a constant budget of image tokens, and which of them a run can fill. Pure, on arrays.

A square of `resolution` pixels has (resolution / 16)^2 tokens in the DiT. Every bucket has nearly as many, never more,
in another aspect ratio; so a step costs the same whatever its pictures' shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from schemas.layout import BUCKETS, aspect_bucket
from schemas.masks import LATENT_STRIDE

PATCH = 2
"""Latent cells along one side of a FLUX image token."""
TOKEN = LATENT_STRIDE * PATCH
"""Pixels along one side of an image token."""

BucketChoice = Literal["aspect", "square"]


@dataclass(frozen=True)
class Bucket:
    """A size that pictures are brought to.

    Args:
        name: aspect ratio, as `schemas.layout.BUCKETS` names it.
        width, height: pixels; multiples of `TOKEN`.
    """

    name: str
    width: int
    height: int

    @property
    def tokens(self) -> int:
        """Image tokens of one picture in the DiT."""
        return self.width * self.height // TOKEN**2


def bucket_table(resolution: int, choice: BucketChoice) -> tuple[Bucket, ...]:
    """The buckets of a run, from the tallest to the widest.

    Args:
        resolution: side in pixels of the square one; a multiple of `TOKEN`.
        choice: `aspect` for one bucket for each ratio of `schemas.layout.BUCKETS`, `square` for that one alone.
    """
    side = resolution // TOKEN
    if choice == "square":
        return (Bucket("1:1", resolution, resolution),)
    sizes = []
    for ratio in BUCKETS.values():
        # Transposed ratios get transposed sizes.
        wide, high = _tokens_of(max(ratio, 1.0 / ratio), side * side)
        sizes.append((wide * TOKEN, high * TOKEN) if ratio >= 1.0 else (high * TOKEN, wide * TOKEN))
    # At a few tokens a side, neighbouring ratios have one size.
    return tuple(Bucket(aspect_bucket(width, height), width, height) for width, height in dict.fromkeys(sizes))


def nearest_bucket(
    table: Sequence[Bucket], widths: npt.NDArray[np.int32], heights: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """For each picture the position in `table` of the bucket whose aspect ratio is nearest, on a logarithmic scale.

    Args:
        widths, heights: (N,) pixels, > 0.

    Returns:
        (N,) uint8.
    """
    ratios = np.log([bucket.width / bucket.height for bucket in table])
    order = np.argsort(ratios, kind="stable")
    bounds = (ratios[order][1:] + ratios[order][:-1]) / 2
    places = np.searchsorted(bounds, np.log(widths / heights), side="right")
    return order[places].astype(np.uint8)


def merged(
    table: Sequence[Bucket], counts: npt.NDArray[np.int64], weights: Sequence[float], rows: int
) -> npt.NDArray[np.int64]:
    """Into which bucket each bucket's samples go, so that no block of `rows` rows of one bucket needs a sample twice
    (except where one epoch of it ends and the next begins).

    The bucket with the smallest share that is too small goes into the one nearest in aspect ratio, until none is.
    Shares count with the weights of the data sets: of a data set of N samples and weight p, each sample is taken with
    the share p / N, wherever it lies, and a bucket with the share R is filled by `rows` samples only where
    rows * p / N <= R for each data set that it holds.

    Args:
        counts: (data sets, buckets) samples; no data set is empty.
        weights: of each data set, > 0.

    Returns:
        (buckets,) positions in `table`; a bucket that stays has its own.
    """
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    of_sample = share / counts.sum(axis=1)
    # (data sets, buckets)
    held = counts.astype(np.float64)
    ratios = np.log([bucket.width / bucket.height for bucket in table])
    target = np.arange(len(table), dtype=np.int64)
    while (filled := np.flatnonzero(held.sum(axis=0))).size > 1:
        shares = of_sample @ held[:, filled]
        most = np.where(held[:, filled] > 0, of_sample[:, None], 0.0).max(axis=0)
        small = filled[rows * most > shares * (1 + 1e-9)]
        if not small.size:
            break
        smallest = small[np.argmin((of_sample @ held)[small])]
        others = filled[filled != smallest]
        into = others[np.argmin(np.abs(ratios[others] - ratios[smallest]))]
        held[:, into] += held[:, smallest]
        held[:, smallest] = 0.0
        target[target == smallest] = into
    return target


def _tokens_of(ratio: float, budget: int) -> tuple[int, int]:
    """Columns and rows of tokens within the budget: near the ratio >= 1, which spares the pictures' edges, and above
    all near the budget."""

    def loss(size: tuple[int, int]) -> float:
        return abs(math.log(size[0] / size[1] / ratio)) + 2.0 * (1.0 - size[0] * size[1] / budget)

    sizes = ((columns, rows) for rows in range(1, math.isqrt(budget) + 1) for columns in range(1, budget // rows + 1))
    return min(sizes, key=loss)
