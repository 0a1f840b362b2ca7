"""A look at a pair from afar: which cells agree.

Shape legend: H, W pixels; r, c cells of the survey.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Mask, Pixels

Cells = npt.NDArray[np.float64]

CELLS = 48
"""Cells along the longer side."""
AGREES = 4.0
"""A cell agrees where no channel is off by more than this many grey levels, on the cell's average."""
_GROSS = 12.0
"""A cell that is off by more than this many grey levels was edited, whatever the noise."""
_FEW = 0.04


def cells(image: Pixels) -> Cells:
    """The averages of an (H, W, 3) uint8 image's cells: (r, c, 3) in 0..1. Grain and texture average out."""
    height, width = image.shape[:2]
    factor = min(1.0, CELLS / max(height, width))
    size = (max(4, round(width * factor)), max(4, round(height * factor)))
    return np.asarray(reduced(image, size) / np.float64(255.0))


def reduced(image: Pixels, size: tuple[int, int]) -> Pixels:
    """`image` averaged down to `size` (width, height), by halves as far as that goes: halves are fast."""
    height, width = image.shape[:2]
    while width % 2 == 0 and height % 2 == 0 and width >= 2 * size[0] and height >= 2 * size[1]:
        width, height = width // 2, height // 2
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    if (width, height) == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def disagreement(first: Cells, second: Cells) -> Cells:
    """How far cells are apart in the channel that is furthest: (r, c) in grey levels."""
    return np.asarray(np.abs(first - second).max(axis=-1) * 255.0)


def agreement(apart: Cells) -> float:
    """The share of the image that agrees in patches of at least 3 x 3 cells, in 0..1; single cells agree by chance."""
    return float(np.mean(_agreeing(apart)))


def unedited(apart: Cells, shape: tuple[int, int], suspect: Mask | None = None) -> Mask | None:
    """Where noise may be measured, for an image of `shape`: away from cells that were edited beyond doubt, or, where
    that leaves next to nothing of the image, in the patches that agree.

    Args:
        suspect: bool, on any grid over the image: what may have been edited, by its detail.

    Returns:
        (H, W) bool; None where there is no such place.
    """
    gross = (apart > _GROSS).astype(np.uint8)
    if suspect is not None:
        gross |= np.asarray(cv2.resize(suspect.view(np.uint8), gross.shape[::-1], interpolation=cv2.INTER_NEAREST))
    chosen = 1 - cv2.dilate(gross, np.ones((3, 3), np.uint8))
    if float(np.mean(chosen)) < _FEW:
        chosen = _agreeing(apart)
    if not chosen.any():
        return None
    return np.asarray(cv2.resize(chosen, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST), np.uint8).view(
        np.bool_
    )


def _agreeing(apart: Cells) -> npt.NDArray[np.uint8]:
    agrees = (apart <= AGREES).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(agrees, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
