"""A look at a pair from afar: which cells agree, and whether the edges lie in the same places.

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
_STRUCTURE_SIDE = 256


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
    agrees = (apart <= AGREES).astype(np.uint8)
    patches = cv2.morphologyEx(agrees, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return float(np.mean(patches))


def unedited(apart: Cells, shape: tuple[int, int]) -> Mask | None:
    """Where noise may be measured, for an image of `shape`: away from cells that were edited beyond doubt.

    Returns:
        (H, W) bool; None where that would leave less than a tenth of the image.
    """
    gross = cv2.dilate((apart > _GROSS).astype(np.uint8), np.ones((3, 3), np.uint8))
    if float(np.mean(gross)) > 0.9:
        return None
    return np.asarray(cv2.resize(1 - gross, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST), np.uint8).view(
        np.bool_
    )


def structure(reference: Pixels, target: Pixels) -> float:
    """Correlation of the edge strengths of two (H, W, 3) uint8 images, in -1..1; 0 where either has no edge."""
    height, width = target.shape[:2]
    factor = min(1.0, _STRUCTURE_SIDE / max(height, width))
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    first, second = (_edges(reduced(image, size)) for image in (reference, target))
    spread = float(first.std() * second.std())
    return float(((first - first.mean()) * (second - second.mean())).mean()) / spread if spread > 1e-6 else 0.0


def _edges(image: Pixels) -> npt.NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    band = grey - cv2.GaussianBlur(grey, (0, 0), 3.0)
    strength = cv2.magnitude(cv2.Sobel(band, cv2.CV_32F, 1, 0), cv2.Sobel(band, cv2.CV_32F, 0, 1))
    return np.asarray(cv2.GaussianBlur(strength, (0, 0), 1.5), dtype=np.float32)
