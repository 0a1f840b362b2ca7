"""The working resolution: large pairs are compared on averages of k x k pixels, and the mask is enlarged again.

Parameters and neighbourhoods then mean the same at every size, noise that lives in single pixels averages out, and the
cost of a large pair is little more than that of reading it.

Shape legend: H, W pixels; h, w pixels of the working copy, H // k and W // k.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.masks.difference import Mask, Pixels

_SHORTEST = 64
"""Pixels that a working copy keeps along its shorter side, so that a long strip is still an image."""


def working_factor(height: int, width: int, side: int) -> int:
    """The k by which an image of `height` x `width` pixels is reduced.

    Returns:
        k >= 1: the largest whole factor that leaves at least `side` pixels along the square root of the area, and at
        least 64 along the shorter side; 1 where none does.
    """
    return max(1, min(int(np.sqrt(height * width) / side), min(height, width) // _SHORTEST))


def reduce_by(image: Pixels, factor: int) -> Pixels:
    """The averages of k x k pixels: (h, w, 3) of (H, W, 3) uint8; a rest of under k rows or columns is left out."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    whole = image[: height * factor, : width * factor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def enlarge_by(mask: Mask, factor: int, shape: tuple[int, int]) -> Mask:
    """The (h, w) bool mask at (H, W), its outline smooth; what `reduce_by` left out is as its neighbours are."""
    height, width = mask.shape[0] * factor, mask.shape[1] * factor
    smooth = cv2.resize(mask.view(np.uint8) * np.uint8(255), (width, height), interpolation=cv2.INTER_LINEAR)
    edited = np.asarray(smooth) > 127
    if (height, width) == shape:
        return edited
    return np.pad(edited, ((0, shape[0] - height), (0, shape[1] - width)), mode="edge")
