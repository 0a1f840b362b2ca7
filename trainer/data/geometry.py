"""One crop and one resize for reference, target and mask. Shape legend: H, W source pixels; R output side; h = R / 8.

The crop is the largest square of the target. It lies in the middle, moved by the least that is needed to hold the box
around the edit, so that a wide picture does not lose its edit at the side. Aspect ratios are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from schemas.masks import LATENT_STRIDE, max_pool

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Crop:
    """A window of an image of size `width` x `height`, in its pixels: [left, left + side) x [top, top + side)."""

    width: int
    height: int
    left: int
    top: int
    side: int


def choose_crop(mask: Mask) -> Crop:
    """The crop of a sample, from its mask at the target's size.

    Args:
        mask: (H, W) bool, True = edited.
    """
    height, width = mask.shape
    side = min(height, width)
    return Crop(
        width,
        height,
        _least_shift(width, side, np.flatnonzero(mask.any(axis=0))),
        _least_shift(height, side, np.flatnonzero(mask.any(axis=1))),
        side,
    )


def apply_to_image(image: Image, crop: Crop, resolution: int) -> Image:
    """An image under the crop, resized to (R, R, 3).

    Args:
        image: (H, W, 3) uint8. One of another size than the crop's is the same scene at another scale where its aspect
            ratio agrees to one pixel, and is then cropped to the same part of the scene; otherwise it is another
            picture (a second reference), and is cropped in its middle.
    """
    height, width = image.shape[:2]
    window = _for_size(crop, width, height)
    part = image[window.top : window.top + window.side, window.left : window.left + window.side]
    # Area averaging keeps a reduced image free of aliases; enlarging needs interpolation.
    method = cv2.INTER_AREA if window.side > resolution else cv2.INTER_CUBIC
    if window.side == resolution:
        return np.ascontiguousarray(part)
    return np.asarray(cv2.resize(part, (resolution, resolution), interpolation=method), dtype=np.uint8)


def apply_to_mask(mask: Mask, crop: Crop, resolution: int) -> Mask:
    """A mask under the crop, resized to (R, R): a pixel is edited where any source pixel under it is.

    No edit is lost by reducing, as none is lost by the max-pool that follows.

    Args:
        mask: (H, W) bool of the crop's own size.

    Raises:
        ValueError: the mask has another size.
    """
    if mask.shape != (crop.height, crop.width):
        raise ValueError(f"mask has shape {mask.shape}; the crop is for {(crop.height, crop.width)}")
    part = mask[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    # (S + 1, S + 1): count of edited pixels above and left of each corner
    count = np.zeros((crop.side + 1, crop.side + 1), dtype=np.int64)
    count[1:, 1:] = part.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    cells = np.arange(resolution, dtype=np.int64)
    first = cells * crop.side // resolution
    last = -((cells + 1) * crop.side // -resolution)
    # (R, S + 1): for each row of the result, the count in the source rows under it, up to each column
    rows = count[last] - count[first]
    return np.asarray(rows[:, last] > rows[:, first])


def latent_cells(mask: Mask, crop: Crop, resolution: int, stride: int = LATENT_STRIDE) -> Mask:
    """The mask under the crop, max-pooled onto exactly the target's latent grid: (R / stride, R / stride) bool."""
    return max_pool(apply_to_mask(mask, crop, resolution), stride)


def _least_shift(length: int, side: int, edited: npt.NDArray[np.intp]) -> int:
    start = (length - side) // 2
    if edited.size == 0:
        return start
    first, last = int(edited[0]), int(edited[-1]) + 1
    fits = last - first <= side
    start = min(max(start, last - side), first) if fits else (first + last - side) // 2
    return min(max(start, 0), length - side)


def _for_size(crop: Crop, width: int, height: int) -> Crop:
    if (width, height) == (crop.width, crop.height):
        return crop
    scale = width / crop.width
    if abs(height - crop.height * scale) > 1.0:
        side = min(width, height)
        return Crop(width, height, (width - side) // 2, (height - side) // 2, side)
    side = min(round(crop.side * scale), width, height)
    left = min(round(crop.left * scale), width - side)
    top = min(round(crop.top * scale), height - side)
    return Crop(width, height, left, top, side)
