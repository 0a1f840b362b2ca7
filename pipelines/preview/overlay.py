"""What was edited, drawn over the target; differences as a heat map; and what a step made of a mask."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.preview.picture import Colour, Picture

MASK_COLOUR: Colour = (255, 46, 138)
"""Tint and outline of the edited region: a magenta that photographs seldom hold."""
BACKGROUND: Colour = (17, 18, 22)
"""Unedited, in a bare mask."""
KEPT: Colour = (240, 240, 236)
"""Edited, in a bare mask."""
GAINED: Colour = (52, 190, 178)
"""What a step added to a mask."""
DROPPED: Colour = (238, 112, 40)
"""What a step took from a mask."""
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


def heat_map(levels: npt.NDArray[np.uint8]) -> Picture:
    """A difference of (H, W) uint8 levels, coloured from black (0) to pale yellow (255).

    The scale is the square root of the level, because edits that matter often differ by little.
    """
    roots = cv2.LUT(levels, np.rint(np.sqrt(np.arange(256) / 255.0) * 255).astype(np.uint8))
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(roots, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)


def heat_colour(level: int) -> Colour:
    """The colour that `heat_map` gives to one level."""
    red, green, blue = heat_map(np.array([[level]], np.uint8))[0, 0]
    return int(red), int(green), int(blue)


def trace(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> Picture:
    """What a step made of a mask: `KEPT` where it stayed, `GAINED` where it grew, `DROPPED` where it went.

    Args:
        before, after: (H, W) bool.

    Returns:
        (H, W, 3) uint8 on `BACKGROUND`.
    """
    table = np.array([BACKGROUND, GAINED, DROPPED, KEPT], np.uint8)
    # (H, W) in 0..3: one bit for each of the two.
    return np.asarray(table[before.view(np.uint8) * 2 + after.view(np.uint8)])


def _ring_if_small(overlay: Picture, mask: npt.NDArray[np.bool_], colour: Colour, thickness: int) -> None:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    extent, side = max(width, height), max(mask.shape)
    if 0 < extent < side * _EASILY_MISSED:
        centre = (left + width // 2, top + height // 2)
        cv2.circle(overlay, centre, round(extent / 2 + side / 40), colour, thickness + 1, cv2.LINE_AA)
