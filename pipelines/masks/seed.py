"""Recipe `seed`: the four steps with a plain absolute difference, as the figure of the UniWorld-V1 paper has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator

from pipelines.masks.components import keep_components
from pipelines.masks.difference import CombineChannels, Mask, Pixels, channel_difference
from pipelines.masks.morphology import dilate
from pipelines.masks.recipe import Difference, Judgement, MaskRecipe
from schemas.config import Config
from schemas.masks import MaskStatus, edited_fraction, max_pool


class SeedParameters(Config):
    """Parameters of the recipe `seed`."""

    combine: CombineChannels = "max"
    """How the differences of the three channels become one; "max" sees a change of a single colour."""
    threshold: int = Field(default=24, ge=1, le=255)
    """A pixel whose difference is at least this many grey levels counts as changed. The default lies above what JPEG
    of quality 75 does to most unchanged pixels."""
    dilation: int = Field(default=3, ge=1, le=255)
    """Width of the ellipse that changed pixels grow by; odd, 1 for no dilation. Every pixel of growth counts on the
    latent grid, where a cell is edited as soon as one of its pixels is."""
    min_component_share: float = Field(default=0.001, ge=0.0, le=1.0)
    """Connected components under this share of the image are dropped; one of just this share stays."""
    min_edited_fraction: float = Field(default=0.001, ge=0.0, le=1.0)
    """A mask under this fraction of the image is `too_small`."""
    global_fraction: float = Field(default=0.9, gt=0.0, le=1.0)
    """A mask of at least this fraction of the image is taken for the whole image: `global`."""

    @field_validator("dilation")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd, so that the ellipse has a middle")
        return value


class SeedRecipe(MaskRecipe[SeedParameters]):
    """See the module. An empty mask is `unchanged` and stays empty, never "the whole image"."""

    name: ClassVar[str] = "seed"
    version: ClassVar[int] = 1
    parameters_class: ClassVar[type[Config]] = SeedParameters

    def difference(self, reference: Pixels, target: Pixels) -> Difference:
        """Absolute difference and a single threshold."""
        heat = channel_difference(reference, target, self.parameters.combine)
        return Difference(heat, heat >= self.parameters.threshold)

    def grow(self, changed: Mask) -> Mask:
        """Elliptic dilation."""
        return dilate(changed, self.parameters.dilation)

    def filter(self, grown: Mask, difference: Difference) -> Mask:
        """Components by their share of the image."""
        return keep_components(grown, self.parameters.min_component_share * grown.size)

    def judge(self, differences: Sequence[Difference], filtered: Mask) -> Judgement:
        """By the edited fraction alone."""
        fraction = edited_fraction(filtered)
        if fraction == 0.0:
            return Judgement(filtered, MaskStatus.UNCHANGED)
        if fraction >= self.parameters.global_fraction:
            return Judgement(np.ones_like(filtered), MaskStatus.GLOBAL)
        if fraction < self.parameters.min_edited_fraction:
            return Judgement(filtered, MaskStatus.TOO_SMALL)
        return Judgement(filtered, MaskStatus.OK)

    def pool(self, mask: Mask) -> Mask:
        """Max-pool."""
        return max_pool(mask)
