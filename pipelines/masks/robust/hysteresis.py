"""Thresholding with hysteresis: weak differences count where they are connected to strong ones (Canny 1986).

It is done at two scales. The fine one has the edges; the coarse one knows an edit from noise, which averages out there.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from pipelines.masks.difference import Mask, Pixels

_EDGE_SHARE = 0.35
"""A pixel under this share of the largest heat around it is the smear of an edge, not the edit itself."""
_NEAR = np.ones((5, 5), np.uint8)
_ALONE = 2.0
"""A fine pixel this many times as strong as `high` needs no support of the coarse scale."""
_COARSE_LOW = 1.3
"""The coarse scale's thresholds, in those of the fine scale: averages have less noise, and blur edges."""
_COARSE_HIGH = 1.15
_WIDE = np.ones((11, 11), np.uint8)
_BESIDE_SHARE = 0.5
_STRONG_SHARE = 0.05
"""The least share of a component's pixels that must be strong, and ..."""
_STRONG_PIXELS = 3
"""... their least number."""


def threshold(heat: Pixels, low: float, high: float, reach: int, support: Mask | None = None) -> Mask:
    """Pixels of at least `low` in components that hold enough pixels of at least `high`.

    Args:
        heat: (H, W) uint8.
        low, high: levels of heat.
        reach: how far a weak pixel may be from the next strong one, in pixels: what is weak far and wide is noise.
        support: (H, W) bool, where a strong pixel counts as one; None for everywhere.

    Returns:
        (H, W) bool.
    """
    peak = cv2.dilate(heat, _NEAR)
    strong = heat >= math.ceil(high)
    if support is not None:
        strong &= support
    near = cv2.dilate(strong.view(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    weak = (heat >= math.ceil(low)) & (heat >= cv2.convertScaleAbs(peak, alpha=_EDGE_SHARE)) & (near > 0)
    count, labels = cv2.connectedComponents(weak.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    members = np.asarray(labels)[weak]
    areas = np.bincount(members, minlength=count)
    strengths = np.bincount(members[strong[weak]], minlength=count)
    stays = strengths >= np.maximum(_STRONG_PIXELS, _STRONG_SHARE * areas)
    stays[0] = False
    changed = np.zeros(heat.shape, np.bool_)
    changed[weak] = stays[members]
    return changed


def threshold_at_two_scales(fine: Pixels, coarse: Pixels, low: float, high: float, reach: int) -> tuple[Mask, Pixels]:
    """What is changed at the fine scale with the coarse one's support, and what only the coarse one sees.

    Args:
        fine: (H, W) uint8.
        coarse: (h, w) uint8, of the same image on a coarser grid.
        low, high, reach: as `threshold` takes them, for the fine scale.

    Returns:
        the (H, W) bool mask, and the (H, W) uint8 heat that it is to be judged by: the larger of both scales inside the
        mask, the fine one outside.
    """
    height, width = fine.shape
    spread = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    supported = spread >= math.ceil(high)
    changed = threshold(fine, low, high, reach, supported | (fine >= math.ceil(_ALONE * high)))
    found = threshold(coarse, _COARSE_LOW * low, _COARSE_HIGH * high, max(coarse.shape))
    region = np.asarray(cv2.resize(found.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR)) > 127
    # Beside a strong edge the coarse grid sees what lies on the edge's other side.
    beside = cv2.convertScaleAbs(cv2.dilate(fine, _WIDE), alpha=_BESIDE_SHARE)
    changed |= region & (spread >= beside)
    levels = fine.copy()
    np.maximum(fine, spread, out=levels, where=changed)
    return changed, levels
