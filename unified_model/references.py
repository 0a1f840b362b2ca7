"""References brought to the size of the image that is made."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch


def reference_pixels(images: Sequence[np.ndarray], height: int, width: int) -> torch.Tensor:
    """References under one size, each scaled alike in both directions until it covers the size, and cut in its middle.

    Args:
        images: (H, W, 3) uint8 of any sizes.

    Returns:
        (N, 3, height, width) uint8.
    """
    fitted = [_cover(image, height, width) for image in images]
    if not fitted:
        return torch.zeros(0, 3, height, width, dtype=torch.uint8)
    return torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2).contiguous()


def _cover(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = image.shape[:2]
    scale = max(height / rows, width / columns)
    # The part of the image that the size will show, in the image's own pixels.
    part_rows, part_columns = min(rows, round(height / scale)), min(columns, round(width / scale))
    top, left = (rows - part_rows) // 2, (columns - part_columns) // 2
    part = image[top : top + part_rows, left : left + part_columns]
    if (part_rows, part_columns) == (height, width):
        return part
    # Area averaging keeps a reduced image free of aliases; enlarging needs interpolation.
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (width, height), interpolation=method), dtype=np.uint8)
