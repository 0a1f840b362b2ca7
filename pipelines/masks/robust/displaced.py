"""Small components that a shift of one pixel explains: generative editors redraw edges a little beside where they were.

Registration brings together what moved as a whole. What wobbles from place to place it cannot, and the noise level only
knows how busy a place is. But where an edge was displaced, each image stays within the range that the other has around
the same pixel; where something was edited, at least one of them does not.

Shape legend: H, W pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Pixels
from pipelines.masks.robust.regions import Components

_AROUND = np.ones((3, 3), np.uint8)
_MARGIN = 2


def drop_displaced(
    components: Components, reference: Pixels, target: Pixels, largest_share: float, least_excess: float
) -> Components:
    """`components`, where the small ones do not stay whose difference is mostly that of edges that moved a pixel.

    Args:
        reference, target: (H, W, 3) uint8, brought together.
        largest_share: of the image; larger components stay.
        least_excess: a component stays where at least this share of its difference, in 0..1, exceeds the range that
            the other image has within one pixel.
    """
    small = components.stays & (components.shares <= largest_share)
    if not small.any():
        return components
    # From label to verdict; label 0 is the background.
    count = len(small) + 1
    asked = np.zeros(count, np.bool_)
    asked[components.names[small]] = True
    candidates = asked[components.labels]
    rows, columns = np.flatnonzero(candidates.any(axis=1)), np.flatnonzero(candidates.any(axis=0))
    box = tuple(slice(max(0, int(ends[0]) - _MARGIN), int(ends[-1]) + 1 + _MARGIN) for ends in (rows, columns))
    inside = candidates[box]
    members = components.labels[box][inside]
    first, second = reference[box], target[box]
    apart = _largest(cv2.absdiff(first, second))[inside]
    beyond = _largest(cv2.max(_beyond(first, second), _beyond(second, first)))[inside]
    total = np.bincount(members, weights=apart, minlength=count)
    excess = np.bincount(members, weights=beyond, minlength=count)
    drops = asked & (excess < least_excess * total)
    kept = components.mask.copy()
    kept[box][inside] = ~drops[members]
    return replace(components, stays=components.stays & ~drops[components.names], mask=kept)


def _beyond(image: Pixels, other: Pixels) -> Pixels:
    """How far `image` is beyond the range that `other` has around each pixel, in grey levels of each channel."""
    above = cv2.subtract(image, cv2.dilate(other, _AROUND))
    return np.asarray(cv2.max(above, cv2.subtract(cv2.erode(other, _AROUND), image)), np.uint8)


def _largest(channels: npt.NDArray[Any]) -> Pixels:
    """The largest channel of (H, W, 3) uint8: (H, W)."""
    red, green, blue = cv2.split(channels)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)
