"""How like its target an output is in one region: PSNR and SSIM. Pure; pictures are (H, W, 3) uint8 RGB."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from trainer.validation.copying import Mask, Picture

BEST_PSNR = 10.0 * float(np.log10(12 * 255.0**2))
"""dB, 58.9: what rounding to whole grey levels alone would leave (a uniform error of one level has the mean square
1/12). No region counts as more alike, so that one without any error has a figure."""

_SIGMA, _SIDE = 1.5, 11
_C1, _C2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2


def psnr(one: Picture, other: Picture, mask: Mask) -> float | None:
    """10 log10(255^2 / mean squared difference) over the pixels of `mask` and the channels, in dB, at most
    `BEST_PSNR`; None where the mask is empty.

    Args:
        mask: (H, W) bool.
    """
    if not mask.any():
        return None
    error = float(np.square(one[mask].astype(np.float64) - other[mask]).mean())
    return min(BEST_PSNR, 10.0 * float(np.log10(255.0**2 / error))) if error else BEST_PSNR


def ssim(one: Picture, other: Picture, mask: Mask) -> float | None:
    """The mean over `mask` and the channels of the structural similarity map, in -1..1; None where the mask is empty.

    Windows near the region's edge see what lies around it too. Wang et al., "Image quality assessment: from error
    visibility to structural similarity" (2004): an 11 x 11 Gaussian window of 1.5 pixels, K1 = 0.01, K2 = 0.03.

    Args:
        mask: (H, W) bool.
    """
    if not mask.any():
        return None
    x, y = one.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x**2
    variance_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    whole = (mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2)
    return float((alike / whole)[mask].mean())


def _blurred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    blurred = cv2.GaussianBlur(values, (_SIDE, _SIDE), _SIGMA, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float64)
