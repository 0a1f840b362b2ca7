"""The step `pair_bounds`: pairs that are too small, or edited too little or too much, do not go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from pydantic import Field, model_validator

from pipelines.step import RowStep
from schemas.config import Config
from schemas.errors import RowRejected
from schemas.images import HARD_MAX_PIXELS, image_size

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Pixels = Annotated[int, Field(ge=1)]


class PairBoundsConfig(Config):
    """The bounds that a pair must meet. Every bound is inclusive; None is no bound."""

    min_edited_fraction: Fraction | None = None
    """Least share of the target's pixels that the mask covers, 0..1."""
    max_edited_fraction: Fraction | None = None
    """Greatest share of the target's pixels that the mask covers, 0..1."""
    min_side: Pixels | None = None
    """Least length of the shorter side, in pixels, of the target and of every reference."""

    @model_validator(mode="after")
    def _bounds_fit(self) -> PairBoundsConfig:
        low, high = self.min_edited_fraction, self.max_edited_fraction
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_edited_fraction {low:g} is above max_edited_fraction {high:g}: no pair could pass")
        if low is None and high is None and self.min_side is None:
            raise ValueError("at least one bound must be given")
        return self

    @property
    def bounds_the_edit(self) -> bool:
        """Whether a mask is needed."""
        return self.min_edited_fraction is not None or self.max_edited_fraction is not None


class PairBounds(RowStep[PairBoundsConfig]):
    """Rejects pairs out of bounds; adds nothing. Images are looked at by their headers alone.

    Reasons: `edited_area_too_small`, `edited_area_too_large`, `edited_fraction_missing`, `target_side_too_short`,
    `reference_side_too_short`, `reference_missing`, and those of `schemas.images.image_size`.
    """

    name: ClassVar[str] = "pair_bounds"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = PairBoundsConfig
    needs: ClassVar[tuple[str, ...]] = ("references", "target", "edited_fraction")
    adds: ClassVar[pa.Schema] = pa.schema([])

    def __init__(self, config: PairBoundsConfig) -> None:
        super().__init__(config)
        # What this very step needs is what its bounds look at: sides alone can be checked before there are masks.
        sides = ("references", "target") if config.min_side is not None else ()
        vars(self)["needs"] = (*sides, *(("edited_fraction",) if config.bounds_the_edit else ()))

    def process_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Look at one pair."""
        if self.config.bounds_the_edit:
            self._check_edit(row["edited_fraction"])
        if self.config.min_side is not None:
            self._check_sides(row, self.config.min_side)
        return {}

    def _check_edit(self, fraction: float | None) -> None:
        low, high = self.config.min_edited_fraction, self.config.max_edited_fraction
        if fraction is None:
            raise RowRejected("edited_fraction_missing", "the pair has no edited fraction")
        measured = {"edited_fraction": fraction}
        # Written so that NaN is out of every bound.
        if low is not None and not fraction >= low:
            sentence = f"{fraction:.4%} of the target is edited, under the minimum {low:.4%}"
            raise RowRejected("edited_area_too_small", sentence, measured)
        if high is not None and not fraction <= high:
            sentence = f"{fraction:.4%} of the target is edited, above the maximum {high:.4%}"
            raise RowRejected("edited_area_too_large", sentence, measured)

    def _check_sides(self, row: Mapping[str, Any], least: int) -> None:
        if not row["references"]:
            raise RowRejected("reference_missing", "the pair has no reference image")
        named = [("target", "target", row["target"])]
        named += [("reference", f"reference {place}", image) for place, image in enumerate(row["references"])]
        for kind, what, image in named:
            width, height = image_size(image["bytes"] if image else None, max_pixels=HARD_MAX_PIXELS)
            if min(width, height) < least:
                sentence = f"the {what} has {width} x {height} pixels, a side under the minimum {least}"
                raise RowRejected(f"{kind}_side_too_short", sentence, {"width": width, "height": height})
