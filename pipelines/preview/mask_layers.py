"""The edited region as layers that a page lays over a picture, so that they can be switched on and off."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.preview.overlay import MASK_COLOUR

_CLEAR, _HALO, _VEIL = (0, 0, 0, 0), (0, 0, 0, 110), (24, 24, 28, 135)
_TINT_ALPHA = 100
_OUTSIDE, _INSIDE, _BORDER, _AROUND = range(4)


def mask_layers(mask: npt.NDArray[np.bool_]) -> tuple[bytes, bytes]:
    """Two PNG files of the mask's size, to be laid over the target or a reference: the outline, and the tint.

    Args:
        mask: (H, W) bool, True = edited.

    Returns:
        The outline, clear elsewhere, which lies inside the region and has a dark rim outside it; and the region tinted
        with everything else veiled. Both have a palette of four colours: a few kilobytes each.
    """
    thickness = max(1, round(min(mask.shape) / 240))
    # Border pixels count as outside, so that a region at the picture's edge is closed off there too.
    padded = np.pad(mask.astype(np.uint8), thickness)
    kernel = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
    whole = (slice(thickness, -thickness),) * 2
    inner, outer = cv2.erode(padded, kernel)[whole] > 0, cv2.dilate(padded, kernel)[whole] > 0
    zones = np.full(mask.shape, _OUTSIDE, np.uint8)
    zones[outer] = _AROUND
    zones[mask] = _BORDER
    zones[inner] = _INSIDE
    outline = _palette_png(zones, (_CLEAR, _CLEAR, (*MASK_COLOUR, 255), _HALO))
    tint = _palette_png(zones, (_VEIL, (*MASK_COLOUR, _TINT_ALPHA), (*MASK_COLOUR, 255), _VEIL))
    return outline, tint


def _palette_png(zones: npt.NDArray[np.uint8], colours: tuple[tuple[int, int, int, int], ...]) -> bytes:
    picture = Image.fromarray(zones, "L").convert("P")
    picture.putpalette([channel for colour in colours for channel in colour[:3]])
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=bytes(colour[3] for colour in colours), bits=2, optimize=True)
    return stream.getvalue()
