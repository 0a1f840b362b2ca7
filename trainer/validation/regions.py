"""The unweighted error of a prediction, parted by region: inside the edit, outside it, and at its border.

Pure functions. Shape legend: B rows; h, w latent cells.
"""

from __future__ import annotations

import torch
from torch.nn.functional import max_pool2d, pad

REGIONS = ("inside", "outside", "border")
"""Inside and outside make up all cells; the border is a band that overlaps both."""


def border_band(cells: torch.Tensor) -> torch.Tensor:
    """One latent cell to each side of the edit's edge: cells of which one of the eight neighbours is on the other side.

    The image's own edge is no edge of the edit.

    Args:
        cells: (B, 1, h, w) bool, True = edited.

    Returns:
        (B, 1, h, w) bool.
    """
    # Beyond the image each side continues as it ends, so that nothing begins or stops there.
    padded = pad(cells.float(), (1, 1, 1, 1), mode="replicate")
    return (max_pool2d(padded, 3, stride=1) > 0) & (max_pool2d(-padded, 3, stride=1) == 0)


def split_errors(errors: torch.Tensor, cells: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Sum and count of the cells of each region, row by row.

    Args:
        errors: (B, 1, h, w), squared error of each latent cell (`trainer.loss.region_loss.error_map`).
        cells: (B, 1, h, w) bool, True = edited.

    Returns:
        Region of `REGIONS` -> (B,) float64 sum of the errors, (B,) int64 number of cells.
    """
    masks = {"inside": cells, "outside": ~cells, "border": border_band(cells)}
    wide = errors.double()
    return {
        name: (torch.where(mask, wide, 0.0).sum(dim=(1, 2, 3)), mask.sum(dim=(1, 2, 3))) for name, mask in masks.items()
    }
