"""What a caller wants edited, and the size that the result will have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.errors import ConfigError

MAX_PIXELS = 1024 * 1024
"""Cap on the area of a result whose size is not given, in pixels."""


@dataclass(frozen=True)
class EditRequest:
    """One image to make.

    Args:
        instruction: what to change; without references, what to show.
        references: (H, W, 3) uint8 RGB, upright; of any sizes and any number, none makes an image from words alone.
        seed: of the starting noise.
        height, width: of the result in pixels, multiples of `UnifiedEditModel.size_multiple`; None takes the first
            reference's size, shrunk to a cap where it is larger and rounded. Without a reference both are needed.
    """

    instruction: str
    references: Sequence[np.ndarray]
    seed: int = 0
    height: int | None = None
    width: int | None = None

    def size(self, multiple: int, max_pixels: int) -> tuple[int, int]:
        """(height, width) of the result.

        Raises:
            ConfigError: a side that is missing or no multiple of `multiple`.
        """
        default = edit_size(self.references[0].shape[:2], multiple, max_pixels) if len(self.references) else (0, 0)
        size = (self.height or default[0], self.width or default[1])
        for name, side in zip(("height", "width"), size, strict=True):
            if side < multiple or side % multiple:
                raise ConfigError(name, side, f"must be a positive multiple of {multiple}", "Round it.")
        return size


def edit_size(size: tuple[int, ...], multiple: int, max_pixels: int) -> tuple[int, int]:
    """(height, width) near `size`, multiples of `multiple`, of at most `max_pixels` (save that no side is below one
    multiple), with the aspect ratio kept as nearly as rounding lets."""
    height, width = size
    shrink = min(1.0, math.sqrt(max_pixels / (height * width)))
    sides = [max(multiple, round(side * shrink / multiple) * multiple) for side in (height, width)]
    while sides[0] * sides[1] > max_pixels and max(sides) > multiple:
        sides[sides.index(max(sides))] -= multiple
    return sides[0], sides[1]
