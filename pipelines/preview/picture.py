"""Small helpers on pictures: (H, W, 3) uint8 RGB arrays."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""
Colour = tuple[int, int, int]
"""Red, green, blue, each in 0..255."""


def resize_to(picture: Picture, height: int, width: int) -> Picture:
    """`picture` at exactly this size: by area where it shrinks, bilinear where it grows."""
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = height * width < picture.shape[0] * picture.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), np.uint8)


def fitted_size(height: int, width: int, box_height: int, box_width: int) -> tuple[int, int]:
    """The largest (height, width) of the same aspect ratio inside the box, each at least 1."""
    scale = min(box_height / height, box_width / width)
    return max(1, min(box_height, round(height * scale))), max(1, min(box_width, round(width * scale)))


def fit(picture: Picture, box_height: int, box_width: int, enlarge: bool = True, nearest: bool = False) -> Picture:
    """`picture` resized to fit the box, aspect ratio kept.

    Args:
        enlarge: whether a smaller picture grows to fill the box.
        nearest: repeat pixels instead of blending them when growing (for grids whose cells mean something).
    """
    height, width = picture.shape[:2]
    if not enlarge and height <= box_height and width <= box_width:
        return picture
    new_height, new_width = fitted_size(height, width, box_height, box_width)
    if nearest and new_height >= height and new_width >= width:
        return np.asarray(cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_NEAREST), np.uint8)
    return resize_to(picture, new_height, new_width)


def shrink_mask(mask: npt.NDArray[np.bool_], height: int, width: int) -> npt.NDArray[np.bool_]:
    """`mask` at a size not greater than its own; a pixel is edited where any pixel under it is, so nothing is lost."""
    if mask.shape == (height, width):
        return mask
    rows = np.linspace(0, mask.shape[0], height + 1).astype(np.int64)[:-1]
    columns = np.linspace(0, mask.shape[1], width + 1).astype(np.int64)[:-1]
    pooled = np.logical_or.reduceat(np.logical_or.reduceat(mask, rows, axis=0), columns, axis=1)
    return np.asarray(pooled, np.bool_)


def shrink_bright(picture: Picture, height: int, width: int) -> Picture:
    """`picture`, bright marks on a dark ground, at a size not greater than its own, by the root of the mean square.

    A mark that covers a hundredth of a pixel then keeps a tenth of its brightness and is still seen, where a plain mean
    loses it; scattered noise stays a veil, where a maximum would make it solid.
    """
    if picture.shape[:2] == (height, width):
        return picture
    squares = cv2.LUT(picture, np.arange(256, dtype=np.uint16) ** 2)
    means = cv2.resize(squares, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(np.sqrt(means.astype(np.float32))), np.uint8)


def montage(pictures: list[Picture], height: int, width: int, gap: int, background: Colour) -> Picture:
    """Several pictures in one box of exactly `height` x `width`, in reading order, each as large as the grid allows.

    Args:
        pictures: at least one.
        gap: pixels between neighbours.

    Returns:
        (height, width, 3) uint8. The grid (1 x n, 2 x ceil(n / 2), ...) is the one that shows the most picture area.
    """

    def boxes(columns: int) -> tuple[int, int]:
        rows = -(-len(pictures) // columns)
        return max(1, (height - gap * (rows - 1)) // rows), max(1, (width - gap * (columns - 1)) // columns)

    def shown(columns: int) -> int:
        sizes = (fitted_size(picture.shape[0], picture.shape[1], *boxes(columns)) for picture in pictures)
        return sum(rows * cells for rows, cells in sizes)

    columns = max(range(1, len(pictures) + 1), key=shown)
    cell_height, cell_width = boxes(columns)
    canvas = np.full((height, width, 3), background, np.uint8)
    for position, picture in enumerate(pictures):
        fitted = fit(picture, cell_height, cell_width)
        top = (position // columns) * (cell_height + gap) + (cell_height - fitted.shape[0]) // 2
        left = (position % columns) * (cell_width + gap) + (cell_width - fitted.shape[1]) // 2
        canvas[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted[: height - top, : width - left]
    return canvas


def encode_png(picture: Picture) -> bytes:
    """`picture` as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def encode_jpeg(picture: Picture, quality: int = 88) -> bytes:
    """`picture` as a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()
