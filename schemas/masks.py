"""Mask polarity, statuses, and the max-pool onto the latent grid. Shape legend: H, W pixels; h, w latent cells."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

EDITED = 255
"""Grey value of an edited pixel in a stored mask: white = edited."""
UNCHANGED = 0
"""Grey value of an unchanged pixel in a stored mask."""
LATENT_STRIDE = 8
"""Pixels of the image along one side of a latent cell (the FLUX VAE's spatial compression)."""
_WORDS: dict[int, type[np.unsignedinteger[Any]]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}
"""Stride -> the integer of as many bytes."""


class MaskStatus(StrEnum):
    """What a mask says of its pair."""

    OK = "ok"
    """A part of the image was edited, and the mask shows it."""
    UNCHANGED = "unchanged"
    """Nothing was edited."""
    GLOBAL = "global"
    """The whole image was edited: full mask, weight 1."""
    TOO_SMALL = "too_small"
    """The edit is under the recipe's floor."""
    MISALIGNED = "misaligned"
    """The images do not show the same scene in the same place."""


def max_pool(mask: npt.NDArray[np.bool_], stride: int = LATENT_STRIDE) -> npt.NDArray[np.bool_]:
    """Max-pool a mask onto the latent grid: a cell is edited where any of its pixels is.

    Args:
        mask: (H, W) bool, True = edited.
        stride: pixels along a side of a cell, >= 1.

    Returns:
        (H // stride, W // stride) bool. Rows and columns past the last whole cell are dropped, as a VAE without
        padding drops them.

    Raises:
        ValueError: `mask` is not a two-dimensional bool array, or is smaller than one cell.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"mask has shape {mask.shape} and dtype {mask.dtype}; it must be (H, W) bool")
    rows, columns = mask.shape[0] // stride, mask.shape[1] // stride
    if rows == 0 or columns == 0:
        raise ValueError(f"mask has shape {mask.shape}; it must hold at least one {stride} x {stride} cell")
    whole = mask[: rows * stride, : columns * stride]
    if stride in _WORDS:
        # A cell's columns are one word, so that a cell is eight of them for a stride of eight.
        words = np.ascontiguousarray(whole).view(_WORDS[stride]).reshape(rows, stride, columns)
        return np.asarray(np.bitwise_or.reduce(words, axis=1) != 0, dtype=np.bool_)
    # Rows first: that runs along memory, and is several times faster than both axes at once.
    pooled_rows = whole.reshape(rows, stride, columns * stride).any(axis=1)
    return np.asarray(pooled_rows.reshape(rows, columns, stride).any(axis=2), dtype=np.bool_)


def edited_fraction(mask: npt.NDArray[np.bool_]) -> float:
    """f = A_edit / A_total of a bool mask of any shape, in 0..1."""
    return float(np.count_nonzero(mask)) / mask.size
