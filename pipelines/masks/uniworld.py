"""Recipe `uniworld`: what the UniWorld-V1 release runs, bit for bit (`univa/utils/get_mask.py`, commit 8403e86)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator

from pipelines.masks.components import keep_components
from pipelines.masks.difference import Mask, Pixels, channel_difference
from pipelines.masks.morphology import close
from pipelines.masks.recipe import Difference, Judgement, MaskRecipe
from schemas.config import Config
from schemas.masks import MaskStatus, edited_fraction, max_pool


class UniWorldParameters(Config):
    """Parameters of the recipe `uniworld`. The defaults are the release's constants."""

    threshold: int = Field(default=18, ge=1, le=255)
    """A pixel whose grey difference is at least this many levels counts as changed."""
    closing: int = Field(default=5, ge=1, le=255)
    """Width of the ellipse of both closings, at full resolution and on the latent grid; odd."""
    min_component_share: float = Field(default=0.3, ge=0.0, le=1.0)
    """Connected components under this share of the mask's own area are dropped; one of just this share stays."""
    min_edited_fraction: float = Field(default=0.001, ge=0.0, le=1.0)
    """A mask under this fraction of the image is refused: `too_small`."""

    @field_validator("closing")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd, so that the ellipse has a middle")
        return value


class UniWorldRecipe(MaskRecipe[UniWorldParameters]):
    """See the module.

    The release takes an empty mask of a single reference for the whole image. So does this recipe, but its status tells
    the two ways there apart: `unchanged` where no pixel differed, `global` where components were dropped until none was
    left. With several references an empty mask is refused, as the release refuses it.
    """

    name: ClassVar[str] = "uniworld"
    version: ClassVar[int] = 1
    parameters_class: ClassVar[type[Config]] = UniWorldParameters
    growth: ClassVar[str] = "closing"

    def difference(self, reference: Pixels, target: Pixels) -> Difference:
        """Channelwise difference, then its luma, then the threshold."""
        heat = channel_difference(reference, target, "luma")
        return Difference(heat, heat >= self.parameters.threshold)

    def grow(self, changed: Mask) -> Mask:
        """Elliptic closing."""
        return close(changed, self.parameters.closing)

    def filter(self, grown: Mask, difference: Difference) -> Mask:
        """Components by their share of the mask, before the references are intersected."""
        return keep_components(grown, self.parameters.min_component_share * np.count_nonzero(grown))

    def judge(self, differences: Sequence[Difference], filtered: Mask) -> Judgement:
        """The release's verdict, with a name."""
        fraction = edited_fraction(filtered)
        if fraction == 0.0 and not any(one.changed.any() for one in differences):
            return Judgement(np.ones_like(filtered), MaskStatus.UNCHANGED)
        if fraction == 0.0 and len(differences) == 1:
            return Judgement(np.ones_like(filtered), MaskStatus.GLOBAL)
        if fraction < self.parameters.min_edited_fraction:
            return Judgement(filtered, MaskStatus.TOO_SMALL)
        return Judgement(filtered, MaskStatus.GLOBAL if fraction == 1.0 else MaskStatus.OK)

    def pool(self, mask: Mask) -> Mask:
        """Max-pool, then the closing once more on the latent grid."""
        return close(max_pool(mask), self.parameters.closing)
