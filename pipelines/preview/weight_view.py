"""The weight map that the loss will use, coloured: the very functions of `schemas`, so the two cannot disagree."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.preview.picture import Colour, Picture
from schemas.masks import LATENT_STRIDE, edited_fraction, max_pool
from schemas.weighting import weight_map


@dataclass(frozen=True)
class WeightView:
    """The weights of one sample on its latent grid.

    Args:
        weights: (h, w) float32, `schemas.weighting.weight_map` of the max-pooled mask.
        edited_weight: w(x) of the edited cells; 1.0 where no cell is edited.
        cell_fraction: share of edited cells, in 0..1; 1 / x of the weighting.
    """

    weights: npt.NDArray[np.float32]
    edited_weight: float
    cell_fraction: float


def view_weights(mask: npt.NDArray[np.bool_], weighting: str, cap: float | None = None) -> WeightView | None:
    """The weights that `weighting` gives to `mask`, without cropping or resizing.

    Args:
        mask: (H, W) bool, True = edited, full resolution.
        weighting, cap: as `schemas.weighting.region_weight`.

    Returns:
        None where the mask is smaller than one latent cell, so that there is no grid.

    Raises:
        ConfigError: no such weighting, or a cap that does not fit it.
    """
    if min(mask.shape) < LATENT_STRIDE:
        return None
    cells = max_pool(mask)
    weights = weight_map(cells, weighting, cap)
    return WeightView(weights, float(weights.max()), edited_fraction(cells))


def colour_weights(weights: npt.ArrayLike, top: float) -> Picture:
    """Weights coloured with viridis, a perceptually uniform map, on a logarithmic scale.

    Args:
        weights: (h, w), each in 1..top.
        top: the weight at the bright end, > = 1; take one for a whole page, so that colours compare between samples.

    Returns:
        (h, w, 3) uint8: 1 is dark violet, `top` yellow, and equal ratios of weight are equal steps of colour.
    """
    scale = np.log2(max(top, 1.0))
    levels = np.log2(np.asarray(weights, np.float64)) / scale if scale > 0 else np.zeros(np.shape(weights))
    bytes_ = np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(bytes_, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB), np.uint8)


def weight_colour(weight: float, top: float) -> Colour:
    """The colour that `colour_weights` gives to one weight."""
    red, green, blue = colour_weights([[weight]], top)[0, 0]
    return int(red), int(green), int(blue)
