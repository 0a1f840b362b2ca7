"""The parameters of the recipe `robust`. Sizes are shares of the image, so that a resized pair gets the same mask."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.config import Config


class RobustParameters(Config):
    """Parameters of the recipe `robust`."""

    several_references: Literal["union", "intersection"] = "union"
    """With several references: what differs from any of them, or only what differs from all of them."""
    working_side: int = Field(default=512, ge=64, le=16384)
    """Pairs with at least twice this many pixels along the square root of their area are compared on averages of
    2 x 2, 3 x 3, ... pixels: as many as leave this side."""
    register_images: bool = True
    """Whether a small motion between the images is looked for; it is applied only where it lowers the residual."""
    match_tone: bool = True
    """Whether a slight tone drift is taken out before the comparison."""
    match_blur: bool = True
    """Whether the sharper image is softened to the other's sharpness before the comparison."""
    least_noise: float = Field(default=1.3, gt=0.0, le=50.0)
    """Noise level, in grey levels, that a pair is taken to have at least: what lies under a few of it nobody sees."""
    low_threshold: float = Field(default=3.0, gt=0.0, le=60.0)
    """A pixel whose difference is this many noise levels counts as changed where it is connected to ..."""
    high_threshold: float = Field(default=7.0, gt=0.0, le=60.0)
    """... pixels of at least this many noise levels."""
    reach_share: float = Field(default=0.02, ge=0.0, le=1.0)
    """How far, as a share of the square root of the image's area, a weak pixel may be from the next strong one."""
    closing_share: float = Field(default=0.008, ge=0.0, le=0.1)
    """Radius of the closing that joins what belongs together, as a share of the square root of the image's area."""
    min_component_share: float = Field(default=0.0003, ge=0.0, le=1.0)
    """Connected components under this share of the image are dropped, however strong."""
    min_component_strength: float = Field(default=0.004, ge=0.0)
    """Connected components whose summed difference, in noise levels times share of the image, is less are dropped."""
    min_component_contrast: float = Field(default=7.5, ge=0.0, le=60.0)
    """Connected components whose mean difference, in noise levels, is less are dropped; the larger one is, the fainter
    it may be, by up to a third at a twentieth of the image."""
    displaced_share: float = Field(default=0.03, ge=0.0, le=1.0)
    """Connected components up to this share of the image are dropped where edges that moved explain them: ..."""
    min_excess: float = Field(default=0.5, ge=0.0, le=1.0)
    """... less than this share of their difference exceeds the range that the other image has around the pixel."""
    hole_share: float = Field(default=0.002, ge=0.0, le=1.0)
    """Enclosed holes up to this share of the image are filled; up to ten times that where they differ a little too."""
    min_edited_fraction: float = Field(default=0.0005, ge=0.0, le=1.0)
    """A mask under this fraction of the image is `too_small`."""
    global_fraction: float = Field(default=0.95, gt=0.0, le=1.0)
    """A mask of at least this fraction of the image is taken for the whole image: `global`."""
    min_agreement: float = Field(default=0.03, ge=0.0, le=1.0)
    """Where less than this share of the image agrees, in connected patches, the whole image was edited (`global`)."""
    min_structure: float = Field(default=0.2, ge=-1.0, le=1.0)
    """Where the directions of the images' edges agree less than this, and ..."""
    min_detail: float = Field(default=0.5, ge=-1.0, le=1.0)
    """... their detail correlates less than this even where it does best, they are no pair (`misaligned`)."""
    redrawn_typical_detail: float = Field(default=0.85, ge=-1.0, le=1.0)
    """Where most of what is shown is where it was, but its detail correlates less than this on the median, ..."""
    redrawn_best_detail: float = Field(default=0.9, ge=-1.0, le=1.0)
    """... and less than this even where it does best, all of the image was drawn anew (`global`)."""

    @model_validator(mode="after")
    def _ordered(self) -> RobustParameters:
        if self.high_threshold < self.low_threshold:
            raise ValueError("high_threshold must not be under low_threshold")
        return self
