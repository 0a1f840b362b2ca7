"""How much the unchanged pixels of a pair differ: a noise level that grows with local activity.

What is left between two unchanged pixels comes from grain and codecs, and, where the image has edges, from what
registration and sharpening could not bring together. So the level is measured in bins of local activity, and in each
by the truncated spread of the smallest differences, which an edit of up to about two thirds of a bin does not move.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Mask, Pixels

BINS = 32
"""Bins of local activity, of 256 / BINS grey levels each."""
_LEAST_COUNT = 64
_START_SHARE = 0.3
"""The share of a bin's smallest differences that its first spread is taken from."""
_START_FACTOR = 0.3853
"""The 0.3 quantile of |N(0, 1)|."""
_STEEPEST = 0.25
"""The steepest rise of the noise with activity that half a pixel of misregistration accounts for."""
_TRUNCATION = 2.5
_ROUNDS = 5
_TRUNCATED_FACTOR = 0.9545
"""Standard deviation of N(0, 1) truncated at 2.5."""

Levels = npt.NDArray[np.float32]


def local_activity(first: Pixels, second: Pixels) -> Pixels:
    """How much the channels vary around each pixel, in either image's 3 x 3 neighbourhood.

    Args:
        first, second: (H, W, 3) uint8.

    Returns:
        (H, W) uint8: the range of the most varying channel, averaged over 7 x 7 pixels.
    """
    square = np.ones((3, 3), np.uint8)
    ranges = cv2.max(*(cv2.morphologyEx(image, cv2.MORPH_GRADIENT, square) for image in (first, second)))
    red, green, blue = cv2.split(ranges)
    return np.asarray(cv2.blur(cv2.max(cv2.max(red, green), blue), (7, 7)), dtype=np.uint8)


def noise_levels(differences: Sequence[Pixels], activity: Pixels, where: Mask | None = None) -> list[Levels]:
    """Standard deviation of the unchanged pixels' differences for each level of activity.

    Args:
        differences: (H, W) uint8 each, absolute differences of the same pair.
        activity: (H, W) uint8.
        where: (H, W) bool, the pixels to measure on; None for all.

    Returns:
        for each difference (256,) float32, >= 0, not falling with activity.
    """
    # Every other pixel of every other row says enough.
    activity = np.ascontiguousarray(activity[::2, ::2])
    chosen = None if where is None else np.ascontiguousarray(where[::2, ::2]).view(np.uint8)
    counts = [
        np.asarray(
            cv2.calcHist([activity, np.ascontiguousarray(one[::2, ::2])], [0, 1], chosen, [BINS, 256], [0, 256, 0, 256])
        )
        for one in differences
    ]
    sizes = counts[0].sum(axis=1)
    filled = np.nonzero(sizes >= max(_LEAST_COUNT, 0.002 * sizes.sum()))[0]
    if not filled.size:
        filled = np.array([int(sizes.argmax())])
    spreads = _spreads(np.concatenate([one[filled] for one in counts]).astype(np.float64))
    centre = np.asarray((filled + 0.5) * (256 / BINS), np.float64)
    # A line through the bins by weighted least absolute deviation, near enough: edits can only raise a bin.
    lines = _rising_lines(centre, spreads.reshape(len(counts), -1), np.asarray(np.sqrt(sizes[filled]), np.float64))
    return [np.asarray(line, dtype=np.float32) for line in lines]


def _spreads(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The truncated standard deviation of each row of a (bins, 256) histogram of absolute differences: (bins,)."""
    bins = np.arange(len(counts))
    below = np.cumsum(counts, axis=1)
    squares = np.cumsum(counts * np.arange(256.0) ** 2, axis=1)
    # A quantile with linear interpolation inside a grey level, so that small noise is not counted in whole levels.
    rank = _START_SHARE * below[:, -1]
    level = (below < rank[:, None]).sum(axis=1)
    under = np.where(level > 0, below[bins, np.maximum(level - 1, 0)], 0.0)
    start = level - 0.5 + (rank - under) / np.maximum(counts[bins, level], 1e-6)
    spread = np.maximum(start, 0.0) / _START_FACTOR
    for _ in range(_ROUNDS):
        reach = np.clip(np.ceil(_TRUNCATION * spread), 1, 255).astype(np.intp)
        spread = np.sqrt(squares[bins, reach] / np.maximum(below[bins, reach], 1.0)) / _TRUNCATED_FACTOR
    return np.asarray(spread)


def _rising_lines(
    centre: npt.NDArray[np.float64], spreads: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The line of each row of (n, bins) spreads, at every level of activity: (n, 256)."""
    at = np.arange(256) + 0.5
    if len(centre) == 1:
        return np.repeat(spreads, 256, axis=1)
    # Every pair of bins proposes a line: (n, pairs) each.
    low, high = np.triu_indices(len(centre), k=1)
    slope = np.clip((spreads[:, high] - spreads[:, low]) / (centre[high] - centre[low]), 0.0, _STEEPEST)
    base = spreads[:, low] - slope * centre[low]
    apart = np.abs(spreads[:, None] - base[..., None] - slope[..., None] * centre) @ weight
    best = apart.argmin(axis=1)[:, None]
    slope, base = np.take_along_axis(slope, best, axis=1), np.take_along_axis(base, best, axis=1)
    return np.asarray(np.clip(base + slope * at, 0.0, None), dtype=np.float64)
