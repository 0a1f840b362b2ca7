"""How different two images are, in noise levels of the pair: brightness and colour, each against its own noise.

The signed difference is smoothed before its size is taken, so that grain cancels and an edit does not. It is split into
brightness and two opponent colours, because codecs leave more noise in colour, and because a change of hue alone must
count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np

from pipelines.masks.difference import Mask, Pixels
from pipelines.masks.robust.noise import local_activity, noise_levels
from pipelines.masks.robust.survey import reduced

UNIT = 2
"""Heat of one noise level: 255 is reached at about 64 noise levels."""
_OPPONENTS = np.array([[0.299, 0.587, 0.114], [-0.45, -0.45, 0.9], [0.9, -0.8, -0.1]], np.float32)
"""Brightness, blue against yellow, red against green; each near one grey level for a change that looks like one."""
_FINE = 4
"""The signed difference is held in quarters of a grey level, so that smoothing is not rounded away."""
_QUIET = 25
"""Activity (grey levels) of a quiet place, and ..."""
_BUSY = 100
"""... of a busy one, at which the noise is reported."""


_COARSE_SIDE = 128
"""Coarse pixels along the square root of the image's area."""
_COARSEST = 8
_COARSE_SMOOTHING = 0.7


@dataclass(frozen=True)
class Heat:
    """A difference in noise levels.

    Args:
        levels: (H, W) uint8, UNIT for each noise level.
        quiet_noise, busy_noise: standard deviation of brightness and the two opponent colours in quiet and busy
            places, in grey levels.
    """

    levels: Pixels
    quiet_noise: tuple[float, ...]
    busy_noise: tuple[float, ...]

    def evidence(self) -> dict[str, list[float]]:
        """The noise as plain values."""
        return {
            "quiet": [round(one, 2) for one in self.quiet_noise],
            "busy": [round(one, 2) for one in self.busy_noise],
        }


def measure_heat(
    reference: Pixels, target: Pixels, least_noise: float, where: Mask | None = None, smoothing: float = 1.0
) -> Heat:
    """The heat of two (H, W, 3) uint8 images that were brought together.

    Args:
        least_noise: noise in grey levels that is assumed at least.
        where: (H, W) bool, where noise is measured; None for everywhere.
        smoothing: Gaussian width in pixels that the signed difference is smoothed by.
    """
    activity = local_activity(reference, target)
    signed = np.subtract(target, reference, dtype=np.int16)
    opponents = cv2.GaussianBlur(cv2.transform(signed, _FINE * _OPPONENTS), (5, 5), smoothing)
    # In halves of a grey level: 127 grey levels are far more than any noise.
    sizes = [np.asarray(one, np.uint8) for one in cv2.split(cv2.convertScaleAbs(opponents, alpha=2.0 / _FINE))]
    noises = [levels / 2.0 for levels in noise_levels(sizes, activity, where)]
    factors = [(UNIT / 2.0 / np.maximum(noise, least_noise)).astype(np.float32) for noise in noises]
    heats = [
        np.asarray(cv2.multiply(size, cv2.LUT(activity, factor), dtype=cv2.CV_8U), dtype=np.uint8)
        for size, factor in zip(sizes, factors, strict=True)
    ]
    heat = reduce(np.maximum, heats)
    return Heat(heat, tuple(float(one[_QUIET]) for one in noises), tuple(float(one[_BUSY]) for one in noises))


def measure_coarse_heat(reference: Pixels, target: Pixels, least_noise: float, where: Mask | None = None) -> Heat:
    """The heat of the images averaged over small squares: grain, codec and re-rendered texture average out, edits stay.

    Args:
        reference, target, least_noise, where: as `measure_heat` takes them, at full size.

    Returns:
        heat on the coarse grid: 2 to 8 pixels a side, a 128th of the image.
    """
    height, width = target.shape[:2]
    factor = min(_COARSEST, max(2, round(float(np.sqrt(height * width)) / _COARSE_SIDE)))
    size = (max(4, width // factor), max(4, height // factor))
    first, second = reduced(reference, size), reduced(target, size)
    chosen = None
    if where is not None:
        chosen = np.asarray(cv2.resize(where.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)).view(np.bool_)
    return measure_heat(first, second, least_noise, chosen, _COARSE_SMOOTHING)
