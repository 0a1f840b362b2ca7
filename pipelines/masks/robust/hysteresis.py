"""Thresholding with hysteresis: weak differences count where they are connected to strong ones (Canny 1986)."""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.masks.difference import Mask, Pixels

_EDGE_SHARE = 0.4
"""A pixel under this share of the largest heat around it is the smear of an edge, not the edit itself."""
_NEAR = np.ones((5, 5), np.uint8)
_STRONG_SHARE = 0.05
"""The least share of a component's pixels that must be strong, and ..."""
_STRONG_PIXELS = 3
"""... their least number."""


def threshold(heat: Pixels, low: float, high: float, reach: int) -> Mask:
    """Pixels of at least `low` in components that hold enough pixels of at least `high`.

    Args:
        heat: (H, W) uint8.
        low, high: levels of heat.
        reach: how far a weak pixel may be from the next strong one, in pixels: what is weak far and wide is noise.

    Returns:
        (H, W) bool.
    """
    peak = cv2.dilate(heat, _NEAR)
    weak = cv2.compare(heat, low, cv2.CMP_GE) & cv2.compare(heat, cv2.multiply(peak, _EDGE_SHARE), cv2.CMP_GE)
    near = cv2.dilate(cv2.compare(heat, high, cv2.CMP_GE), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    weak = (weak & near) > 0
    count, labels = cv2.connectedComponents(weak.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    members = labels[weak]
    areas = np.bincount(members, minlength=count)
    strong = np.bincount(members[heat[weak] >= high], minlength=count)
    stays = strong >= np.maximum(_STRONG_PIXELS, _STRONG_SHARE * areas)
    stays[0] = False
    return np.asarray(np.take(stays, np.asarray(labels, np.int32)), dtype=np.bool_)
