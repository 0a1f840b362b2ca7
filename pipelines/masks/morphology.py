"""Step 2 of a mask: dilation or closing with an ellipse, so that what belongs together touches."""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.masks.difference import Mask


def dilate(mask: Mask, size: int) -> Mask:
    """`mask` grown by an ellipse of `size` x `size` pixels (odd; 1 leaves it as it is)."""
    return _apply(cv2.MORPH_DILATE, mask, size)


def close(mask: Mask, size: int) -> Mask:
    """`mask` with gaps smaller than an ellipse of `size` x `size` pixels filled (odd; 1 leaves it as it is)."""
    return _apply(cv2.MORPH_CLOSE, mask, size)


def _apply(operation: int, mask: Mask, size: int) -> Mask:
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    changed = cv2.morphologyEx(np.ascontiguousarray(mask).view(np.uint8), operation, ellipse)
    return np.asarray(changed, dtype=np.uint8).view(np.bool_)
