"""The 64-bit perceptual hash of an image: signs of its lowest frequencies, which survive resizing and recompression.

Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), the DCT-based hash: a grey image of
32 x 32, its two-dimensional DCT, the 8 x 8 coefficients from the second row and column on, each held against their
median. Averaging areas while shrinking takes the place of the paper's mean filter.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

BITS = 64
_SIDE = 32
_FREQUENCIES = slice(1, 9)
_LEAST_STRUCTURE = 8.0
"""Largest coefficient under which an image is flat: a wave of amplitude A grey levels has a coefficient of 16 A."""


def perceptual_hash(image: npt.NDArray[np.uint8]) -> int | None:
    """The hash, 0 <= hash < 2^64; near images have hashes of small Hamming distance.

    Args:
        image: (H, W, 3) uint8, upright RGB.

    Returns:
        None where the image is flat: signs of rounding errors would make all flat images alike or unlike by chance.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = np.asarray(cv2.dct(small))[_FREQUENCIES, _FREQUENCIES].ravel()
    if float(np.abs(low).max()) < _LEAST_STRUCTURE:
        return None
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
