"""Regions of a photograph that an edit can be about: blobs, and ellipses drawn in to an object's outline.

Shape legend: H, W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Alpha = npt.NDArray[np.float32]

_OUTLINE_SIDE = 192
"""Outlines are looked for in a copy of the photograph whose longer side has this many pixels."""
_LEAST_SUPPORT = 0.04
"""Where less than this share of an edit would reach, nothing is edited at all."""


def ellipse(shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]) -> Mask:
    """An ellipse, with `centre` and `radii` as (x, y) shares of width and height: (H, W) bool."""
    return _radius(shape, centre, radii)[0] <= 1.0


def blob(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float], random: np.random.Generator
) -> Mask:
    """An ellipse whose outline wanders by up to about a quarter of its radius: (H, W) bool."""
    radius, angle = _radius(shape, centre, radii)
    outline = np.ones_like(radius)
    for waves in range(2, 6):
        outline += random.uniform(0.0, 0.3 / waves) * np.cos(waves * angle + random.uniform(0.0, 2 * np.pi))
    return np.asarray(radius <= outline, dtype=np.bool_)


def outline(pixels: Pixels, around: Mask) -> Mask:
    """The object inside `around`, told from what surrounds it by colour (GrabCut, Rother et al. 2004).

    Args:
        pixels: (H, W, 3) uint8.
        around: (H, W) bool, a generous region around the object.

    Returns:
        (H, W) bool, inside `around`; `around` itself where no object stands out (under a quarter of the region).
    """
    height, width = around.shape
    factor = min(1.0, _OUTLINE_SIDE / max(height, width))
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(around.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    labels = np.where(inside > 0, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    if inside.all() or not inside.any():
        return around
    # GrabCut draws its first clusters at random: the same seed gives the same outline.
    cv2.setRNGSeed(0)
    model = np.zeros((1, 65), np.float64)
    cv2.grabCut(small, labels, (0, 0, 0, 0), model, model.copy(), 4, cv2.GC_INIT_WITH_MASK)
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float32)
    fine = cv2.GaussianBlur(cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR), (0, 0), 1.5)
    whole = _largest_component((np.asarray(fine) > 0.5) & around)
    return whole if np.count_nonzero(whole) >= 0.25 * np.count_nonzero(around) else around


def feather(region: Mask, width: float) -> Alpha:
    """How strongly an edit of `region` acts at each pixel: 1 inside, falling to 0 over about `width` pixels.

    Returns:
        (H, W) float32 in 0..1. What lies beyond the fall is exactly 0; a width under a tenth of a pixel gives the hard
        region.
    """
    hard = region.astype(np.float32)
    if width < 0.1:
        return hard
    soft = np.asarray(cv2.GaussianBlur(hard, (0, 0), width / 2.0), dtype=np.float32)
    return np.where(soft < _LEAST_SUPPORT, 0.0, soft).astype(np.float32)


def position_in_words(centre: tuple[float, float]) -> str:
    """Where `centre` (x, y shares) lies, in words: "top left", "centre", ..."""
    across = ("left", "", "right")[min(2, int(centre[0] * 3))]
    down = ("top", "", "bottom")[min(2, int(centre[1] * 3))]
    return " ".join(word for word in (down, across) if word) or "centre"


def _radius(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    height, width = shape
    across = ((np.arange(width) + 0.5) / width - centre[0]) / radii[0]
    down = ((np.arange(height) + 0.5) / height - centre[1]) / radii[1]
    return np.hypot(across[None, :], down[:, None]), np.arctan2(down[:, None], across[None, :])


def _largest_component(mask: Mask) -> Mask:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = np.asarray(statistics)[1:, cv2.CC_STAT_AREA]
    if areas.size == 0:
        return mask
    return np.asarray(np.asarray(labels) == 1 + int(areas.argmax()), dtype=np.bool_)
