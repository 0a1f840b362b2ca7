"""How near a mask comes to a known region: on the latent grid, where the weight is decided."""

from __future__ import annotations

import numpy as np

from pipelines.masks.difference import Mask
from schemas.masks import max_pool
from schemas.weighting import region_weight


def pooled_iou(mask: Mask, known: Mask) -> float:
    """Intersection over union of two full-resolution masks after the 8x max-pool.

    Args:
        mask, known: (H, W) bool, True = edited.

    Returns:
        in 0..1; 1 where both are empty.
    """
    found, true = max_pool(mask), max_pool(known)
    union = np.count_nonzero(found | true)
    return np.count_nonzero(found & true) / union if union else 1.0


def weight_error(mask: Mask, known: Mask, weighting: str = "logarithmic") -> float:
    """Relative error |w - w_known| / w_known of the edited region's weight, after the 8x max-pool.

    Args:
        mask, known: (H, W) bool, True = edited. An empty mask weighs 1: there is no region to weigh.
        weighting: a weighting without a cap.
    """
    found, true = (_weight(max_pool(one), weighting) for one in (mask, known))
    return abs(found - true) / true


def _weight(cells: Mask, weighting: str) -> float:
    edited = np.count_nonzero(cells)
    return float(region_weight(weighting, cells.size / edited)) if edited else 1.0
