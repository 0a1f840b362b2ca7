"""Whether an output is the reference once more instead of an edit. Pure; pictures are (H, W, 3) uint8 RGB.

A model that is trained on small edits may learn to hand back its reference: its loss outside the edit is then perfect,
and its pictures look faultless. An output counts as a copy where, inside the edit, it lies no further from the
reference than a small share of the way that the target lies from it. Reference and target go through the latent codec
first, as the output did, so that what the codec loses does not count as a change.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

LEAST_CHANGE = 1.0 / 255.0
"""Mean absolute difference of target and reference inside the edit, in 0..1, below which there is no edit to miss."""


def mean_difference(one: Picture, other: Picture, mask: Mask) -> float | None:
    """Mean absolute difference over the pixels of `mask` and the channels, in 0..1; None where the mask is empty.

    Args:
        mask: (H, W) bool.
    """
    if not mask.any():
        return None
    return float(np.abs(one[mask].astype(np.int16) - other[mask]).mean()) / 255.0


def change_share(output: Picture, reference: Picture, target: Picture, edited: Mask) -> float | None:
    """How far the output moves the edited region, as a share of how far the target does: 0 is a copy of the reference,
    and a perfect edit has 1. It may be larger; where it is not small, it says nothing about being right.

    Args:
        reference, target: after a round trip through the latent codec.
        edited: (H, W) bool.

    Returns:
        None where nothing is edited, or target and reference differ by less than `LEAST_CHANGE`.
    """
    wanted = mean_difference(target, reference, edited)
    moved = mean_difference(output, reference, edited)
    if wanted is None or moved is None or wanted < LEAST_CHANGE:
        return None
    return moved / wanted


def is_copy(share: float | None, threshold: float) -> bool | None:
    """Whether an output with this `change_share` is indistinguishable from the reference; None where it cannot be
    told. `threshold` is inclusive."""
    return None if share is None else share <= threshold
