"""How sure a verdict is, in 0..1: for a curator to sort by, not a probability.

An edit is sure where it stands far above what is left outside of it, in an image much of which agrees and which has
little noise; an unchanged pair, where nothing comes near the thresholds; a global edit or a misaligned pair, where next
to nothing agrees.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.masks.difference import Mask, Pixels
from pipelines.masks.robust.heat import UNIT

_TAIL = 0.995
"""The quantile of the heat outside the mask that an edit must stand above."""
_MARGIN = np.ones((5, 5), np.uint8)
_ENOUGH_AGREEMENT = 0.25
_MUCH_DISAGREEMENT = 30.0
_MUCH_NOISE = 15.0
"""Grey levels of noise at which a verdict is half as sure."""


def edit_confidence(heat: Pixels, mask: Mask, agreement: float, noise: float) -> float:
    """How sure it is that `mask` holds the edit and nothing else does.

    Args:
        heat: (H, W) uint8.
        mask: (H, W) bool, not empty.
        agreement: share of the image that agrees, in 0..1.
        noise: of quiet places, in grey levels.
    """
    inside = float(np.asarray(cv2.mean(heat, mask.view(np.uint8)))[0]) / UNIT
    above = max(0.0, 1.0 - tail(heat, mask) / max(inside, 1e-6))
    return round(above * min(1.0, agreement / _ENOUGH_AGREEMENT) * _clean(noise), 4)


def unchanged_confidence(heat: Pixels, high: float, agreement: float, noise: float) -> float:
    """How sure it is that nothing was edited.

    Args:
        heat, agreement, noise: as `edit_confidence` takes them.
        high: the high threshold in noise levels.
    """
    below = max(0.0, 1.0 - 0.5 * tail(heat, np.zeros(heat.shape, np.bool_)) / high)
    return round(below * min(1.0, agreement / _ENOUGH_AGREEMENT) * _clean(noise), 4)


def whole_confidence(agreement: float, limit: float, disagreement: float) -> float:
    """How sure it is that the whole image was edited, or that the images are no pair: by how little agrees.

    Args:
        agreement: share of the image that agrees, in 0..1.
        limit: the agreement from which on the pair would have been compared.
        disagreement: median over the image, in grey levels: a codec at its worst reaches about twenty.
    """
    return round(max(0.0, 1.0 - 0.5 * agreement / max(limit, 1e-6)) * min(1.0, disagreement / _MUCH_DISAGREEMENT), 4)


def tail(heat: Pixels, mask: Mask) -> float:
    """The heat, in noise levels, that 99.5 % of the pixels well outside `mask` stay under."""
    # Every other pixel of every other row says enough.
    heat, mask = np.ascontiguousarray(heat[::2, ::2]), np.ascontiguousarray(mask[::2, ::2])
    outside = 1 - cv2.dilate(mask.view(np.uint8), _MARGIN)
    counts = np.asarray(cv2.calcHist([heat], [0], outside, [256], [0, 256])).ravel()
    below = np.cumsum(counts)
    if below[-1] == 0.0:
        return 0.0
    return float(np.searchsorted(below, _TAIL * below[-1])) / UNIT


def _clean(noise: float) -> float:
    return 1.0 / (1.0 + noise / _MUCH_NOISE)
