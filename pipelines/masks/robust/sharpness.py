"""Which of two images is softer, and by how much: found by trying a few Gaussian widths."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Pixels

WIDTHS = (0.0, 0.5, 0.7, 0.9, 1.2)
"""Gaussian widths tried on either image, in pixels of the working copy."""
_LEAST_GAIN = 0.05
_TILE = 144
_TRIMMED_SHARE = 0.8


def match_sharpness(reference: Pixels, target: Pixels) -> tuple[float, float]:
    """The widths by which the reference and the target are to be softened so that they are equally sharp.

    Returns:
        (reference's, target's) Gaussian width in pixels; at most one of them is above 0.
    """
    first, second = (
        np.asarray(cv2.cvtColor(_tiles(image), cv2.COLOR_RGB2GRAY), np.uint8) for image in (reference, target)
    )
    best, least = (0.0, 0.0), _apart(first, second)
    if least < 0.05:
        return best
    limit = least * (1.0 - _LEAST_GAIN)
    for softened in (0, 1):
        for width in WIDTHS[1:]:
            pair = [first, second]
            pair[softened] = soften(pair[softened], width)
            cost = _apart(*pair)
            if cost >= min(least, limit):
                break
            best, least = ((width, 0.0), (0.0, width))[softened], cost
        if best != (0.0, 0.0):
            break
    return best


def soften(image: npt.NDArray[np.uint8], width: float) -> npt.NDArray[np.uint8]:
    """`image` under a Gaussian of `width` pixels; 0 leaves it as it is."""
    if width <= 0.0:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), width), dtype=np.uint8)


def _tiles(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The middles of the four quarters, side by side: they say enough, at a cost that does not grow with the image."""
    height, width = image.shape[:2]
    across, down = min(_TILE, width // 2), min(_TILE, height // 2)
    tops = (height // 4 - down // 2, 3 * height // 4 - down // 2)
    lefts = (width // 4 - across // 2, 3 * width // 4 - across // 2)
    return np.vstack([np.hstack([image[top : top + down, left : left + across] for left in lefts]) for top in tops])


def _apart(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    counts = np.asarray(cv2.calcHist([cv2.absdiff(first, second)], [0], None, [256], [0, 256])).ravel()
    below = np.minimum(np.cumsum(counts), _TRIMMED_SHARE * first.size)
    kept = np.diff(below, prepend=0.0)
    return float((kept * np.arange(256)).sum() / (_TRIMMED_SHARE * first.size))
