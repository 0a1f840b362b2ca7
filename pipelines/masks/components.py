"""Step 3 of a mask: connected components, and which of them are large enough to stay."""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.masks.difference import Mask


def keep_components(mask: Mask, min_area: float) -> Mask:
    """`mask` without the 8-connected components of fewer than `min_area` pixels (one of just that area stays)."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    # A table from label to verdict: one look-up a pixel, however many components noise makes. Label 0 is background.
    stays = statistics[:, cv2.CC_STAT_AREA] >= min_area
    stays[0] = False
    return np.asarray(np.take(stays, np.asarray(labels, dtype=np.int32)), dtype=np.bool_)
