"""A sample in one line of pictures, drawn at the size at which a terminal shows it, so that a thin outline survives."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.preview.card import EditLook
from pipelines.preview.overlay import mask_over
from pipelines.preview.picture import Picture, fit, montage, shrink_mask
from pipelines.preview.weight_view import colour_weights

_BLACK = (0, 0, 0)


def edit_strip(look: EditLook, top: float, width: int) -> Picture:
    """reference | target | mask over target | weight map, side by side, each as tall as the target.

    Args:
        top: the bright end of the weight map's colours.
        width: of the whole strip in pixels, gaps included; at least 16.

    Returns:
        (H, W, 3) uint8 with W <= `width`. A target smaller than its place is not enlarged.
    """
    gap = max(1, width // 160)
    target = fit(look.target, 10**6, (width - 3 * gap) // 4, enlarge=False)
    height, panel = target.shape[:2]
    pictures = [
        montage(list(look.references), height, panel, gap, _BLACK),
        target,
        mask_over(target, shrink_mask(look.mask, height, panel)),
    ]
    if look.weights is not None:
        pictures.append(_cells_at(look.weights.weights, top, height, panel))
    return side_by_side(pictures, gap)


def _cells_at(weights: npt.NDArray[np.float32], top: float, height: int, width: int) -> Picture:
    """The coloured grid at another size: cells are repeated where it grows; the heaviest wins where it shrinks."""
    shrunk_height, shrunk_width = min(height, weights.shape[0]), min(width, weights.shape[1])
    edited = shrink_mask(weights > 1.0, shrunk_height, shrunk_width)
    coloured = colour_weights(np.where(edited, weights.max(), 1.0), top)
    return np.asarray(cv2.resize(coloured, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def side_by_side(pictures: list[Picture], gap: int) -> Picture:
    """Pictures of one height in a row on black, `gap` pixels between them."""
    parts: list[Picture] = []
    for position, picture in enumerate(pictures):
        if position:
            parts.append(np.zeros((picture.shape[0], gap, 3), np.uint8))
        parts.append(picture)
    return np.concatenate(parts, axis=1)
