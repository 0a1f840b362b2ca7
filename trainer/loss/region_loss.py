"""The region-weighted loss before any reduction. Shape legend: B samples; C channels; h, w latent cells.

Lin et al., "UniWorld-V1" (arXiv:2506.03147), mask-weighted training.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from schemas.weighting import weight_map
from trainer.config import WeightingConfig


def error_map(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error of each latent cell, the mean over its channels.

    Args:
        prediction, target: (B, C, h, w), any floating dtype.

    Returns:
        (B, 1, h, w) float32.
    """
    return (prediction.float() - target.float()).square().mean(dim=1, keepdim=True)


def region_weights(cells: Sequence[npt.NDArray[np.bool_]], weighting: WeightingConfig) -> torch.Tensor:
    """The weight of every latent cell, as `schemas.weighting.weight_map` gives it (the map a preview shows).

    Args:
        cells: B masks (h, w) on the latent grid, True = edited.

    Returns:
        (B, 1, h, w) float32. With `normalise: per_sample` each sample's weights have the mean 1, before `scale`.
    """
    maps = np.stack([_weights(mask, weighting) for mask in cells])
    if weighting.normalise == "per_sample":
        maps = (maps / maps.mean(axis=(1, 2), keepdims=True, dtype=np.float64)).astype(np.float32)
    return torch.from_numpy(maps * np.float32(weighting.scale)).unsqueeze(1)


def _weights(mask: npt.NDArray[np.bool_], weighting: WeightingConfig) -> npt.NDArray[np.float32]:
    weights = weight_map(mask, weighting.function, weighting.max_weight, weighting.min_edit_fraction)
    if weighting.shuffled:
        # By the mask's own content: the same sample is shuffled alike in every epoch, run and process.
        random = np.random.default_rng(zlib.crc32(np.packbits(mask).tobytes()))
        weights = random.permutation(weights.ravel()).reshape(mask.shape)
    return weights
