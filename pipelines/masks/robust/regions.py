"""Which connected components stay, by contrast times area and by absolute size, and what is filled inside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Mask, Pixels
from pipelines.masks.robust.heat import UNIT

_LISTED = 12
"""Components listed in the evidence, the strongest first."""
_DIFFERS = 1.5
"""A larger hole is filled where its mean heat is this many times that of the unchanged image."""
_LARGER = 10.0


@dataclass(frozen=True)
class Components:
    """The components of a mask, strongest first, and which of them stay.

    Args:
        shares: of the image, in 0..1.
        contrasts: mean heat, in noise levels.
        stays: whether each stays.
        mask: (H, W) bool, those that stay.
    """

    shares: npt.NDArray[np.float64]
    contrasts: npt.NDArray[np.float64]
    stays: npt.NDArray[np.bool_]
    mask: Mask

    def evidence(self) -> Mapping[str, Any]:
        """Plain values: counts, and (share, contrast, kept) of the strongest."""
        listed = [
            {"share": round(float(share), 6), "contrast": round(float(contrast), 2), "kept": bool(kept)}
            for share, contrast, kept in zip(self.shares, self.contrasts, self.stays, strict=True)
        ]
        kept = int(self.stays.sum())
        return {"found": len(listed), "kept": kept, "dropped": len(listed) - kept, "strongest": listed[:_LISTED]}


def choose_components(
    mask: Mask, heat: Pixels, min_share: float, min_strength: float, min_contrast: float
) -> Components:
    """The 8-connected components of `mask`, judged by their share of the image and their summed heat.

    Args:
        mask: (H, W) bool.
        heat: (H, W) uint8.
        min_share: of the image; one of just this share stays.
        min_strength: mean heat in noise levels, times share of the image; one of just this strength stays.
        min_contrast: mean heat in noise levels; one of just this contrast stays.
    """
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    labels = np.asarray(labels, dtype=np.int32)
    shares = statistics[:, cv2.CC_STAT_AREA] / mask.size
    strengths = np.bincount(labels[mask], weights=heat[mask], minlength=count) / UNIT / mask.size
    contrasts = strengths / np.maximum(shares, 1.0 / mask.size)
    stays = (shares >= min_share) & (strengths >= min_strength) & (contrasts >= min_contrast)
    stays[0] = False
    order = 1 + np.argsort(-strengths[1:], kind="stable")
    kept = np.asarray(np.take(stays, labels), dtype=np.bool_)
    return Components(shares[order], contrasts[order], stays[order], kept)


def fill_holes(mask: Mask, heat: Pixels, share: float) -> Mask:
    """`mask` with its small enclosed holes filled; what touches the border is no hole.

    Args:
        mask: (H, W) bool.
        heat: (H, W) uint8.
        share: holes up to this share of the image are filled; up to ten times that where they differ as well.
    """
    if not mask.any():
        return mask
    height, width = mask.shape
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        (~mask).view(np.uint8), connectivity=4, ltype=cv2.CV_32S
    )
    labels = np.asarray(labels, dtype=np.int32)
    left, top, across, down, areas = (statistics[:, column] for column in range(5))
    enclosed = (left > 0) & (top > 0) & (left + across < width) & (top + down < height)
    sums = np.bincount(labels[~mask], weights=heat[~mask], minlength=count)
    means = sums / np.maximum(areas, 1)
    outside = float(sums[~enclosed].sum() / max(1, int(areas[~enclosed].sum())))
    small = areas <= share * mask.size
    differing = (areas <= _LARGER * share * mask.size) & (means >= max(_DIFFERS * outside, UNIT))
    fills = enclosed & (small | differing)
    fills[0] = False
    return np.asarray(mask | np.take(fills, labels), dtype=np.bool_)
