"""Which optimizer moves the parameters, and how fast."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from schemas.config import Config, rule_broken

OptimizerName = Literal["adamw", "adamw_8bit", "prodigy"]
ScheduleName = Literal["constant", "linear", "cosine", "polynomial"]

LEAST_PRODIGY_FACTOR = 0.1
"""Prodigy's `learning_rate` is a factor of the rate it finds, usually 1; one of Adam's size would train nothing."""


class ProdigyConfig(Config):
    """What only Prodigy has (Mishchenko and Defazio, arXiv:2306.06101)."""

    d0: float = Field(default=1e-6, gt=0.0)
    """First estimate of the distance to the solution; rarely needs a change."""
    d_coef: float = Field(default=1.0, gt=0.0)
    """Factor of the estimate, and the preferred way to tune: 0.5 is more careful, 2 bolder."""
    growth_rate: float | None = Field(default=None, gt=1.0)
    """The estimate grows by at most this factor a step; null for any."""
    bias_correction: bool = True
    """Adam's correction of young moments."""
    safeguard_warmup: bool = True
    """Keep a warm-up's small rates from inflating the estimate."""


class OptimizerConfig(Config):
    """An optimizer, its learning rate over the run, and the clipping of its gradient."""

    name: OptimizerName = "adamw"
    """`adamw`, with a fused kernel where the device has one; `adamw_8bit`, whose moments take 2 bytes a parameter in
    place of 8 (needs bitsandbytes); `prodigy`, which finds its own learning rate (needs prodigyopt)."""
    learning_rate: float = Field(default=1e-5, gt=0.0)
    """Peak learning rate; for `prodigy` the peak of a factor of the rate that it finds: 1."""
    schedule: ScheduleName = "constant"
    """How the learning rate falls from its peak once warm. See `trainer.optimization.schedules`."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate grows linearly from 0 (exclusive) to its peak."""
    schedule_steps: int | None = Field(default=None, ge=1)
    """Step, warm-up included, at which the rate has fallen and stays; null takes the run's `steps`, which then cannot
    be raised later. Not for `constant`."""
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the peak to which the rate falls. Not for `constant`."""
    power: float = Field(default=2.0, gt=0.0)
    """Of `polynomial`: 1 is linear, greater falls sooner."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and second moment, each in [0, 1)."""
    epsilon: float = Field(default=1e-8, gt=0.0)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled weight decay, of every trainable parameter."""
    clip_norm: float = Field(default=1.0, ge=0.0)
    """The gradient's global 2-norm is clipped to this; 0 does not clip."""
    minimum_8bit_size: int = Field(default=4096, ge=1)
    """Of `adamw_8bit`: tensors of fewer elements keep moments of 32 bits. ZeRO joins parameters to one tensor, so that
    only a very small part of a model is ever affected."""
    prodigy: ProdigyConfig = ProdigyConfig()
    """Of `prodigy`."""

    @field_validator("betas")
    @classmethod
    def _betas_in_range(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError("each must be at least 0 and less than 1")
        return betas

    @model_validator(mode="after")
    def _prodigy_finds_the_rate(self) -> OptimizerConfig:
        if self.name == "prodigy" and self.learning_rate < LEAST_PRODIGY_FACTOR:
            rule = f"is a factor of the rate that prodigy finds: it must be at least {LEAST_PRODIGY_FACTOR}"
            raise rule_broken("learning_rate", self.learning_rate, rule, "Set it to 1.")
        return self
