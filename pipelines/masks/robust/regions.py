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
_LARGE = 0.05
"""Noise clumps, but not over this share of the image: a component as large may be fainter, ..."""
_FAINTER = 1.0 / 3.0
"""... by this share of the least contrast; a smaller one by less, in proportion."""


@dataclass(frozen=True)
class Components:
    """The components of a mask, strongest first, and which of them stay.

    Args:
        shares: of the image, in 0..1.
        contrasts: mean heat, in noise levels.
        stays: whether each stays.
        names: the label that each has in `labels`.
        labels: (H, W) int32, 0 where no component is.
        mask: (H, W) bool, those that stay.
    """

    shares: npt.NDArray[np.float64]
    contrasts: npt.NDArray[np.float64]
    stays: npt.NDArray[np.bool_]
    names: npt.NDArray[np.intp]
    labels: npt.NDArray[np.int32]
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
        min_contrast: mean heat in noise levels; one of just this contrast stays, a large one with less.
    """
    count, found = cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    labels = np.asarray(found, dtype=np.int32)
    # Label of each set pixel only: most of an image is background.
    members = labels[mask]
    shares = np.bincount(members, minlength=count) / mask.size
    strengths = np.bincount(members, weights=heat[mask], minlength=count) / UNIT / mask.size
    contrasts = strengths / np.maximum(shares, 1.0 / mask.size)
    stays = (
        (shares >= min_share)
        & (strengths >= min_strength)
        & (contrasts >= min_contrast * (1.0 - _FAINTER * np.minimum(shares / _LARGE, 1.0)))
    )
    stays[0] = False
    order = 1 + np.argsort(-strengths[1:], kind="stable")
    kept = np.zeros_like(mask)
    kept[mask] = stays[members]
    return Components(shares[order], contrasts[order], stays[order], order, labels, kept)


def fill_holes(mask: Mask, heat: Pixels, share: float) -> Mask:
    """`mask` with its small enclosed holes filled; what is open to the border is no hole.

    Args:
        mask: (H, W) bool.
        heat: (H, W) uint8.
        share: holes up to this share of the image are filled; up to ten times that where they differ as well.
    """
    box = _bounding_box(mask)
    if box is None:
        return mask
    inside, warmth = mask[box], heat[box]
    count, found = cv2.connectedComponents((~inside).view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    labels = np.asarray(found, dtype=np.int32)
    enclosed = np.ones(count, np.bool_)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        enclosed[edge] = False
    enclosed[0] = False
    hole = enclosed[labels]
    members = labels[hole]
    if not members.size:
        return mask
    areas = np.bincount(members, minlength=count)
    means = np.bincount(members, weights=warmth[hole], minlength=count) / np.maximum(areas, 1)
    outside = float(np.asarray(cv2.mean(heat, (~mask).view(np.uint8)))[0])
    small = areas <= share * mask.size
    differing = (areas <= _LARGER * share * mask.size) & (means >= max(_DIFFERS * outside, UNIT))
    filled = mask.copy()
    filled[box][hole] = (small | differing)[members]
    return filled


def _bounding_box(mask: Mask) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
