"""Which of two images is softer, and by how much: found by trying a few Gaussian widths.

A codec or a VAE softens all of an image. A background that was blurred is an edit: what lost its detail has no say.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Mask, Pixels

WIDTHS = (0.0, 0.5, 0.7, 0.9, 1.2)
"""Gaussian widths tried on either image, in pixels of the working copy."""
_LEAST_GAIN = 0.05
_TILE = 144
_TILES = 4
_TRIMMED_SHARE = 0.8


def match_sharpness(reference: Pixels, target: Pixels, suspect: Mask | None = None) -> tuple[float, float]:
    """The widths by which the reference and the target are to be softened so that they are equally sharp.

    Args:
        reference, target: (H, W, 3) uint8.
        suspect: bool, on any grid over the image: what may have been edited, which is looked at last.

    Returns:
        (reference's, target's) Gaussian width in pixels; at most one of them is above 0.
    """
    places = _places(target.shape, suspect)
    first, second = (
        np.asarray(cv2.cvtColor(np.vstack([image[place] for place in places]), cv2.COLOR_RGB2GRAY), np.uint8)
        for image in (reference, target)
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


def _places(shape: tuple[int, ...], suspect: Mask | None) -> list[tuple[slice, slice]]:
    """Four tiles of an image of `shape`, which say enough, at a cost that does not grow with it: the middles of its
    quarters, or where the least is suspect."""
    height, width = shape[:2]
    side = min(_TILE, width // 2, height // 2)
    middles = [(down / 8, across / 8) for down in (2, 6) for across in (2, 6)]
    if suspect is not None and suspect.any():
        finer = [(down / 16, across / 16) for down in range(2, 15, 2) for across in range(2, 15, 2)]
        extent = (max(1, suspect.shape[0] * side // height), max(1, suspect.shape[1] * side // width))
        shares = cv2.blur(suspect.astype(np.float32), extent[::-1], borderType=cv2.BORDER_REPLICATE)
        told = [shares[int(down * suspect.shape[0]), int(across * suspect.shape[1])] for down, across in finer]
        middles = [finer[number] for number in np.argsort(told, kind="stable")[:_TILES]]
    corners = [
        (
            min(max(0, round(down * height) - side // 2), height - side),
            min(max(0, round(across * width) - side // 2), width - side),
        )
        for down, across in middles
    ]
    return [(slice(top, top + side), slice(left, left + side)) for top, left in corners]


def _apart(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    counts = np.asarray(cv2.calcHist([cv2.absdiff(first, second)], [0], None, [256], [0, 256])).ravel()
    below = np.minimum(np.cumsum(counts), _TRIMMED_SHARE * first.size)
    kept = np.diff(below, prepend=0.0)
    return float((kept * np.arange(256)).sum() / (_TRIMMED_SHARE * first.size))
