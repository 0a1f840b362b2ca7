"""The step `declared_masks`: the mask that came with a pair becomes its mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipelines.masks.step import MASK_PATH, EditMasks
from pipelines.sources.pair_rows import DECLARED_MASK
from pipelines.step import RowStep
from schemas.config import Config
from schemas.errors import RowRejected
from schemas.images import decode_mask, encode_mask, image_size
from schemas.masks import MaskStatus, edited_fraction

RECIPE = "declared"
"""What such masks are called in `mask_recipe`."""


class DeclaredMasksConfig(Config):
    """Config of the step `declared_masks`."""

    global_fraction: float = Field(default=1.0, gt=0.0, le=1.0)
    """A mask of at least this fraction of the image is taken for the whole image: `global`."""
    keep_statuses: tuple[MaskStatus, ...] = (MaskStatus.OK, MaskStatus.GLOBAL)
    """Masks with another status are rejected, with the status as the reason."""


class DeclaredMasks(RowStep[DeclaredMasksConfig]):
    """Takes the column `declared_mask` (white = edited) as the mask, for pairs whose edited region is known.

    What public collections declare is rarely that: MagicBrush's masks are painted generously, UltraEdit's say where a
    model was allowed to edit. Reasons besides those of `schemas.images`: `mask_missing`, `mask_size` (another size than
    the target), and the statuses that `keep_statuses` leaves out (`unchanged` for an empty mask).
    """

    name: ClassVar[str] = "declared_masks"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = DeclaredMasksConfig
    needs: ClassVar[tuple[str, ...]] = ("target", DECLARED_MASK.name)
    adds: ClassVar[pa.Schema] = EditMasks.adds

    def process_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Decode, judge, encode as every other mask is."""
        declared = row[DECLARED_MASK.name]
        if declared is None or not declared["bytes"]:
            raise RowRejected("mask_missing", "no mask came with the pair")
        mask = decode_mask(declared["bytes"])
        width, height = image_size(row["target"]["bytes"])
        if mask.shape != (height, width):
            found = f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels, the target {width} x {height}"
            raise RowRejected("mask_size", found)
        fraction = edited_fraction(mask)
        status = MaskStatus.OK if fraction else MaskStatus.UNCHANGED
        if fraction >= self.config.global_fraction:
            status, mask, fraction = MaskStatus.GLOBAL, np.ones_like(mask), 1.0
        if status not in self.config.keep_statuses:
            raise RowRejected(status.value, f"the mask covers {fraction:.4%} of the image")
        return {
            "mask": {"bytes": encode_mask(mask), "path": MASK_PATH},
            "mask_status": status.value,
            "edited_fraction": fraction,
            "width": width,
            "height": height,
            "mask_recipe": RECIPE,
            "mask_recipe_version": self.version,
            "mask_parameters": "{}",
            "mask_confidence": None,
            "mask_evidence": None,
        }
