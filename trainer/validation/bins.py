"""Bins of the edited area, by which held-out figures are told apart."""

from __future__ import annotations

import math

from schemas.masks import MaskStatus

AREA_BINS: dict[str, str] = {
    "under_1": "under 1 %",
    "1_to_5": "1 to 5 %",
    "5_to_20": "5 to 20 %",
    "over_20": "over 20 %",
    "global": "whole image",
}
"""Name in figures -> name for people, from the smallest to the largest."""

_UPPER = {"under_1": 0.01, "1_to_5": 0.05, "5_to_20": 0.20}


def area_bin(fraction: float, status: str) -> str:
    """The bin of a sample, a key of `AREA_BINS`.

    Args:
        fraction: edited fraction of the stored mask at full resolution, in 0..1. A bin holds its lower bound, and not
            its upper one. Not a number for an image with a caption, all of which is made.
        status: mask status; `global` has a bin of its own.
    """
    if status == MaskStatus.GLOBAL or math.isnan(fraction):
        return "global"
    return next((name for name, upper in _UPPER.items() if fraction < upper), "over_20")
