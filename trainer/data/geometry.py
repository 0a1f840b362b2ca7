"""One crop and one resize for reference, target and mask. Shape legend: H, W source pixels; P, Q rows and columns of
the result in pixels; p = P / 8, q = Q / 8 latent cells.

The crop is the largest window of the target that has the result's aspect ratio. It lies in the middle, moved by the
least that is needed to hold the box around the edit, so that a wide picture does not lose its edit at the side. Aspect
ratios are kept, to a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from schemas.masks import LATENT_STRIDE, max_pool

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Reduction = Literal[1, 2, 4, 8]


@dataclass(frozen=True)
class Crop:
    """A window of an image, and the size that it is brought to.

    Args:
        width, height: of the whole image, in its pixels.
        left, top, columns, rows: the window, in its pixels: [left, left + columns) x [top, top + rows).
        out_width, out_height: Q and P.
    """

    width: int
    height: int
    left: int
    top: int
    columns: int
    rows: int
    out_width: int
    out_height: int


def choose_crop(mask: Mask, out_width: int, out_height: int, reduction: int = 1) -> Crop:
    """The crop of a sample, from its mask at the target's size.

    Args:
        mask: (H, W) bool, True = edited.
        out_width, out_height: size of the result in pixels.
        reduction: the window lies on a lattice of so many pixels, and is at most so many smaller than the largest: a
            decoder that gives every `reduction`-th pixel then gives exactly this window. See `reduction_of`.
    """
    height, width = mask.shape
    columns, rows = _largest(width, height, out_width, out_height, reduction)
    if (columns, rows) == (width, height):
        return Crop(width, height, 0, 0, columns, rows, out_width, out_height)
    # Left, top, width and height of the box around the edit; all zero where there is none.
    left, top, wide, high = cv2.boundingRect(mask.view(np.uint8))
    return Crop(
        width,
        height,
        _least_shift(width, columns, left, left + wide, reduction),
        _least_shift(height, rows, top, top + high, reduction),
        columns,
        rows,
        out_width,
        out_height,
    )


def reduction_of(width: int, height: int, out_width: int, out_height: int) -> Reduction:
    """By how much an image of width x height may be reduced while it is decoded, without being smaller under the crop
    than the result: 1, 2, 4 or 8, the reductions of a JPEG decoder."""
    reductions: tuple[Reduction, ...] = (8, 4, 2)
    for reduction in reductions:
        if min(width, height) >= reduction:
            columns, rows = _largest(width, height, out_width, out_height, reduction)
            if columns >= reduction * out_width and rows >= reduction * out_height:
                return reduction
    return 1


def reduced(crop: Crop, reduction: int) -> Crop:
    """The same window of the image after a decoder reduced it, rounding its sides up.

    Args:
        crop: chosen with this reduction, or a multiple of it.
    """
    return replace(
        crop,
        width=-(-crop.width // reduction),
        height=-(-crop.height // reduction),
        left=crop.left // reduction,
        top=crop.top // reduction,
        columns=crop.columns // reduction,
        rows=crop.rows // reduction,
    )


def apply_to_image(image: Image, crop: Crop, out: Image | None = None) -> Image:
    """An image under the crop, resized to (P, Q, 3).

    Args:
        image: (H, W, 3) uint8. One of another size than the crop's is the same scene at another scale where its aspect
            ratio agrees to one pixel, and is then cropped to the same part of the scene; otherwise it is another
            picture (a second reference), and is cropped in its middle.
        out: (P, Q, 3) uint8, C-contiguous, to write into; None makes an array, or gives the image where it is one.
    """
    height, width = image.shape[:2]
    window = _for_size(crop, width, height)
    part = image[window.top : window.top + window.rows, window.left : window.left + window.columns]
    if out is None and part.shape[:2] == (crop.out_height, crop.out_width):
        return np.ascontiguousarray(part)
    result = np.empty((crop.out_height, crop.out_width, 3), dtype=np.uint8) if out is None else out
    _resize(part, result)
    return result


def apply_to_mask(mask: Mask, crop: Crop) -> Mask:
    """A mask under the crop, resized to (P, Q): a pixel is edited where any source pixel under it is.

    No edit is lost by reducing, as none is lost by the max-pool that follows.

    Args:
        mask: (H, W) bool of the crop's own size.

    Raises:
        ValueError: the mask has another size.
    """
    return _any_under(mask, crop, crop.out_height, crop.out_width)


def latent_cells(mask: Mask, crop: Crop, stride: int = LATENT_STRIDE) -> Mask:
    """The mask under the crop, max-pooled onto exactly the target's latent grid: (P / stride, Q / stride) bool.

    Args, raises: as `apply_to_mask`, whose result, pooled, this is.
    """
    if crop.out_height % stride or crop.out_width % stride:
        return max_pool(apply_to_mask(mask, crop), stride)
    if (crop.rows, crop.columns) == (crop.out_height, crop.out_width) and mask.shape == (crop.height, crop.width):
        return max_pool(mask[crop.top : crop.top + crop.rows, crop.left : crop.left + crop.columns], stride)
    # A cell's pixels lie side by side, and so do the source pixels under them.
    return _any_under(mask, crop, crop.out_height // stride, crop.out_width // stride)


def _any_under(mask: Mask, crop: Crop, rows: int, columns: int) -> Mask:
    """Cut the window into rows x columns fields: True where any source pixel lies under one, wholly or in part."""
    if mask.shape != (crop.height, crop.width):
        raise ValueError(f"mask has shape {mask.shape}; the crop is for {(crop.height, crop.width)}")
    part = mask[crop.top : crop.top + crop.rows, crop.left : crop.left + crop.columns]
    # (window rows + 1, window columns + 1): count of edited pixels above and left of each corner
    count = cv2.integral(part.view(np.uint8))
    above, below = _bounds(crop.rows, rows)
    left, right = _bounds(crop.columns, columns)
    # (rows, window columns + 1): for each row of fields, the count in the source rows under it, up to each column
    under = count[below] - count[above]
    return np.asarray(under[:, right] > under[:, left])


def _bounds(length: int, fields: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    numbers = np.arange(fields, dtype=np.int64)
    return numbers * length // fields, -((numbers + 1) * length // -fields)


def _resize(part: Image, out: Image) -> None:
    """`part` at the size of `out`, written there.

    Reducing averages over what falls together, so that fine patterns leave no false ones; enlarging interpolates.
    """
    (rows, columns), (high, wide) = part.shape[:2], out.shape[:2]
    if (rows, columns) == (high, wide):
        out[...] = part
    elif rows <= high and columns <= wide:
        cv2.resize(part, (wide, high), dst=out, interpolation=cv2.INTER_CUBIC)
    elif rows % high == 0 and columns % wide == 0:
        cv2.resize(part, (wide, high), dst=out, interpolation=cv2.INTER_AREA)
    else:
        # OpenCV's area averaging takes three times as long where the factor is no whole number.
        pixels = torch.from_numpy(part).permute(2, 0, 1).unsqueeze(0)
        smaller = functional.interpolate(pixels, size=(high, wide), mode="bilinear", antialias=True)
        cv2.merge(list(smaller[0].numpy()), dst=out)


def _largest(width: int, height: int, out_width: int, out_height: int, lattice: int) -> tuple[int, int]:
    """Columns and rows of the largest window in the result's aspect ratio, on the lattice."""
    if width * out_height > height * out_width:
        columns, rows = min(width, max(1, round(height * out_width / out_height))), height
    else:
        columns, rows = width, min(height, max(1, round(width * out_height / out_width)))
    return columns - columns % lattice, rows - rows % lattice


def _least_shift(length: int, window: int, first: int, last: int, lattice: int) -> int:
    """Where a window starts on the lattice: in the middle, or as near to it as holds [first, last) where that fits."""
    start = (length - window) // 2
    if last > first:
        start = min(max(start, last - window), first) if last - first <= window else (first + last - window) // 2
    start = min(max(start, 0), length - window)
    down = start - start % lattice
    # Up where that holds the edit's end, and stays inside.
    up = down + lattice
    return up if down + window < last <= up + window and up <= first and up + window <= length else down


def _for_size(crop: Crop, width: int, height: int) -> Crop:
    if (width, height) == (crop.width, crop.height):
        return crop
    scale = width / crop.width
    if abs(height - crop.height * scale) > 1.0:
        columns, rows = _largest(width, height, crop.out_width, crop.out_height, 1)
        left, top = (width - columns) // 2, (height - rows) // 2
    else:
        columns, rows = (min(round(crop.columns * scale), width), min(round(crop.rows * scale), height))
        left, top = min(round(crop.left * scale), width - columns), min(round(crop.top * scale), height - rows)
    return replace(crop, width=width, height=height, left=left, top=top, columns=max(columns, 1), rows=max(rows, 1))
