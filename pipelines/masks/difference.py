"""Step 1 of a mask: how far each pixel of the target is from the reference, as a heat map of grey levels.

Shape legend: H, W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CombineChannels = Literal["max", "mean", "luma"]
"""How three channel differences become one: the largest, their mean, or ITU-R 601 luma."""


def channel_difference(reference: Pixels, target: Pixels, combine: CombineChannels) -> Pixels:
    """|reference - target|, over the channels as `combine` says.

    Args:
        reference, target: (H, W, 3) uint8, of one shape.

    Returns:
        (H, W) uint8 heat map in 0..255. "luma" is rounded as Pillow's conversion to grey rounds it, which the released
        UniWorld-V1 uses (OpenCV's rounds otherwise).
    """
    difference = cv2.absdiff(reference, target)
    if combine == "luma":
        return np.asarray(Image.fromarray(difference).convert("L"))
    red, green, blue = cv2.split(difference)
    if combine == "max":
        return np.asarray(cv2.max(cv2.max(red, green), blue), dtype=np.uint8)
    total = red.astype(np.uint16) + green + blue
    return np.asarray((total + 1) // 3, dtype=np.uint8)


def least(heats: Sequence[Pixels]) -> Pixels:
    """The pixelwise minimum of heat maps: it reaches a threshold exactly where all of them do."""
    return reduce(np.minimum, heats)


def intersect(masks: Sequence[Mask]) -> Mask:
    """Where all masks are set. With several references, what differs from every one of them was edited."""
    return reduce(np.logical_and, masks)
