"""Whether two images show the same scene, and whether any of it was left as it was drawn: by edges, whatever the tone.

Averages cannot tell: a sketch of a scene has other ones everywhere, and another scene may have the same. Two measures
on a reduced, band-passed copy can. The directions of edges agree wherever the same things lie in the same places,
however they are drawn. And detail correlates (normalised cross-correlation, in windows) where it was not drawn anew.

Shape legend: h, w pixels of the reduced copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Mask, Pixels
from pipelines.masks.robust.survey import reduced

Floats = npt.NDArray[np.float32]

_SIDE = 256
_LEAST_REDUCTION = 0.5
"""A small image is reduced as well, so that noise of single pixels averages out."""
_BAND = (0.7, 3.0)
"""Gaussian widths in pixels of the reduced copy: noise is under the band, light and shade above."""
_WINDOW = (13, 13)
"""Windows, in pixels of half the reduced copy."""
_LEAST_DETAIL = 3.0
"""Standard deviation of the band, in grey levels, from which on a window holds detail."""
_LEAST_SHARE = 0.02
"""Under this share of the windows with detail, nothing is said of it."""
_BEST = 95
_FINE_BAND = (0.7, 1.5)
"""The band of the finest detail that noise of single pixels leaves: blur takes all of it."""
_LOST = 0.3
"""Where of the finest detail both share less than this share of their mean power, ..."""
_LOST_DETAIL = 4.0
"""... and either holds at least this much, in grey levels, it was lost."""
_MUCH_LOST = 0.2
"""Where detail was lost in this share of the image, ..."""
_KEPT = 0.5
"""... only what shares at least this much of it is beyond suspicion."""
_STRONGEST = 95.0
"""Percentile of the gradients' strength beyond which all count alike."""


@dataclass(frozen=True)
class Likeness:
    """How alike two images are drawn.

    Args:
        structure: agreement of the edges' directions beyond that of any two images with as many upright and level
            edges, weighted by strength: about 0 for other scenes, 1 for the same, 0 where there are no edges.
        detailed: share of the image with detail in either, in 0..1.
        typical_detail, best_detail: median and 95th percentile over the windows of the correlation of their detail,
            in -1..1; 1 where there is next to none.
        suspect: (h / 2, w / 2) bool: where much of the image lost its finest detail, as a background does that was
            blurred or replaced, all that did not keep it; nothing else.
    """

    structure: float
    detailed: float
    typical_detail: float
    best_detail: float
    suspect: Mask


def measure_likeness(reference: Pixels, target: Pixels) -> Likeness:
    """The likeness of two (H, W, 3) uint8 images that lie on each other."""
    height, width = target.shape[:2]
    factor = min(_LEAST_REDUCTION, _SIDE / max(height, width))
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    first, second = (
        cv2.cvtColor(reduced(image, size), cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (reference, target)
    )
    return Likeness(_structure(first, second), *_detail(first, second))


def _structure(first: Floats, second: Floats) -> float:
    # Directions in double angle, so that dark on light and light on dark are one.
    (across, along, strong), (across_too, along_too, strong_too) = _directions(first), _directions(second)
    weight = strong * strong_too
    total = float(weight.sum())
    if total <= 0.0:
        return 0.0
    agreed = float((weight * (across * across_too + along * along_too)).sum()) / total
    means = [float((weight * one).sum()) / total for one in (across, across_too, along, along_too)]
    expected = means[0] * means[1] + means[2] * means[3]
    return (agreed - expected) / max(1.0 - expected, 1e-6)


def _directions(grey: Floats) -> tuple[Floats, Floats, Floats]:
    """Cosine and sine of twice the direction, and the strength, each (h, w)."""
    soft = cv2.GaussianBlur(grey, (0, 0), 1.0)
    # Every other one of either says enough.
    right, down = (cv2.Sobel(soft, cv2.CV_32F, *axis, scale=0.125)[::2, ::2] for axis in ((1, 0), (0, 1)))
    square = right * right + down * down
    strength = np.sqrt(square)
    capped = np.minimum(strength, np.float32(np.percentile(strength[::2, ::2], _STRONGEST)))
    safe = np.maximum(square, np.float32(1e-6))
    across = np.asarray((right * right - down * down) / safe, dtype=np.float32)
    along = np.asarray(2.0 * right * down / safe, dtype=np.float32)
    return across, along, np.asarray(capped, dtype=np.float32)


def _detail(first: Floats, second: Floats) -> tuple[float, float, float, Mask]:
    soft, soft_too = (
        np.asarray(cv2.GaussianBlur(grey, (0, 0), _BAND[0]), dtype=np.float32) for grey in (first, second)
    )
    power, power_too, shared = _powers(soft, soft_too, _FINE_BAND[1])
    suspect = _suspect(np.maximum(power, power_too), 2.0 * shared / (power + power_too + 1e-3))
    power, power_too, shared = _powers(soft, soft_too, _BAND[1])
    told = np.maximum(power, power_too) >= _LEAST_DETAIL**2
    detailed = float(np.mean(told))
    if detailed < _LEAST_SHARE:
        return detailed, 1.0, 1.0, suspect
    correlation = (shared / np.sqrt(power * power_too + 1e-3))[told]
    typical, best = np.percentile(correlation, (50, _BEST))
    return detailed, float(typical), float(best), suspect


def _suspect(power: Floats, shared: Floats) -> Mask:
    told = power >= _LOST_DETAIL**2
    if float(np.mean(told & (shared < _LOST))) < _MUCH_LOST:
        return np.zeros(told.shape, np.bool_)
    return np.asarray(~told | (shared < _KEPT), np.bool_)


def _powers(first: Floats, second: Floats, width: float) -> tuple[Floats, Floats, Floats]:
    """Of what a Gaussian of `width` pixels takes from either: the power of both, and what they share, in windows."""
    one, two = (soft - cv2.GaussianBlur(soft, (0, 0), width) for soft in (first, second))
    return _windows(one * one), _windows(two * two), _windows(one * two)


def _windows(product: Floats) -> Floats:
    height, width = product.shape
    half = cv2.resize(product, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(half, _WINDOW), dtype=np.float32)
