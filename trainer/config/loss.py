"""What the loss weighs, and at which noise levels it is taken."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from schemas.config import Config
from schemas.errors import ConfigError
from schemas.weighting import WEIGHTINGS, check_weighting


class WeightingConfig(Config):
    """How the edited region is weighed in the loss."""

    function: str = "logarithmic"
    """A key of `schemas.weighting.WEIGHTINGS`: uniform, linear, exponential_root, logarithmic or quadratic_root."""
    max_weight: float | None = None
    """The largest weight of a latent cell, inclusive, or null for no cap. `exponential_root` needs one."""
    min_edit_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """An edit of a smaller share of the picture is weighed as one of this share: x is at most 1 / min_edit_fraction. 0
    weighs every edit by its own size."""
    normalise: Literal["none", "per_sample", "per_batch"] = "none"
    """`none`: weighted sum over the number of cells, as UniWorld-V1 was trained; a small edit then counts for more.
    `per_sample`: each sample's weights are divided by their mean, so that samples count alike. `per_batch`: the
    weighted sum over the sum of the weights of the global batch."""
    scale: float = Field(default=1.0, gt=0.0)
    """Every weight is multiplied by this in the end: a control that has the size of another weighting's loss and none
    of its emphasis."""
    shuffled: bool = False
    """Deal each sample's weights out over its cells at random, the same way every time: a control that has the weights
    of a function but not their place."""

    @field_validator("function")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in WEIGHTINGS:
            raise ValueError(f"must be one of {', '.join(WEIGHTINGS)}")
        return name

    @model_validator(mode="after")
    def _capped(self) -> WeightingConfig:
        try:
            check_weighting(self.function, self.max_weight)
        except ConfigError as error:
            raise ValueError(f"{error.field}: {error.rule} ({error.mend})") from error
        return self


class TimestepConfig(Config):
    """The distribution of the noise level: a logit-normal, shifted with the number of image tokens."""

    mean: float = 0.0
    """Mean of the normal before the shift."""
    deviation: float = Field(default=1.0, gt=0.0)
    """Standard deviation of the normal."""
    base_tokens: int = Field(default=256, ge=1)
    """Image tokens at which the shift is `base_shift`."""
    base_shift: float = 0.5
    """mu at `base_tokens`."""
    max_tokens: int = Field(default=4096, ge=2)
    """Image tokens at which the shift is `max_shift`; in between, and beyond, mu is linear in the tokens."""
    max_shift: float = 1.15
    """mu at `max_tokens`."""

    @model_validator(mode="after")
    def _ordered(self) -> TimestepConfig:
        if self.max_tokens <= self.base_tokens:
            raise ValueError("max_tokens must be greater than base_tokens")
        return self
