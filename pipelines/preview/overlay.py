"""What was edited, drawn over the target; and how far target and reference are apart, as a heat map."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.preview.picture import Colour, Picture, resize_to

MASK_COLOUR: Colour = (255, 46, 138)
"""Tint and outline of the edited region: a magenta that photographs seldom hold."""
_TINT = 0.38
_DIM = 0.62
_EASILY_MISSED = 1 / 25
"""A mask whose extent is under this share of the picture's longer side gets a ring around it."""


def mask_over(picture: Picture, mask: npt.NDArray[np.bool_], colour: Colour = MASK_COLOUR) -> Picture:
    """The edited region tinted and outlined; the rest kept, muted to near grey so that the eye goes to the edit.

    Args:
        picture: (H, W, 3) uint8.
        mask: (H, W) bool, True = edited.

    Returns:
        (H, W, 3) uint8. The outline lies inside the region, so that a region of one pixel still shows; a mask so small
        that it is easily missed is ringed.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., np.newaxis].astype(np.float32)
    muted = (0.35 * picture + 0.65 * grey) * _DIM + 255 * (1 - _DIM) * 0.45
    tinted = picture * (1 - _TINT) + np.asarray(colour, np.float32) * _TINT
    drawn = np.where(mask[..., np.newaxis], tinted, muted)
    thickness = max(1, round(min(mask.shape) / 200))
    # Border pixels count as outside, so that a region at the picture's edge is closed off there too.
    padded = np.pad(mask.astype(np.uint8), thickness)
    inner = cv2.erode(padded, np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8))
    inner = inner[thickness:-thickness, thickness:-thickness]
    drawn[mask & (inner == 0)] = colour
    overlay = np.clip(np.rint(drawn), 0, 255).astype(np.uint8)
    _ring_if_small(overlay, mask, colour, thickness)
    return overlay


def difference_heat(reference: Picture, target: Picture) -> Picture:
    """The greatest channel difference of each pixel, coloured from black (equal) to pale yellow (255 apart).

    The scale is the square root of the difference, because edits that matter often differ by a few grey values only.
    A reference of another size is resized to the target's.
    """
    aligned = resize_to(reference, target.shape[0], target.shape[1])
    difference = np.abs(target.astype(np.int16) - aligned.astype(np.int16)).max(axis=2)
    levels = np.rint(np.sqrt(difference / 255.0) * 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)


def _ring_if_small(overlay: Picture, mask: npt.NDArray[np.bool_], colour: Colour, thickness: int) -> None:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    extent, side = max(width, height), max(mask.shape)
    if 0 < extent < side * _EASILY_MISSED:
        centre = (left + width // 2, top + height // 2)
        cv2.circle(overlay, centre, round(extent / 2 + side / 40), colour, thickness + 1, cv2.LINE_AA)
