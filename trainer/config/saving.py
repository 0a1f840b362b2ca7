"""What a run keeps: the moving average and checkpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.config import Config


class EmaConfig(Config):
    """The exponential moving average of the trainable parameters."""

    enabled: bool | None = None
    """Whether the run keeps one; null leaves it to the stage, of which `align` keeps none. A run without one exports
    its raw weights only."""
    decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """The share of the old average kept at each step, once warm."""
    warmup: bool = True
    """Follow quickly while the average is young: at its update s, counted from 0, keep min((1 + s) / (10 + s), decay).
    Without, it keeps `decay` from the start, and remembers the starting weights for about 1 / (1 - decay) steps."""
    device: Literal["same", "cpu"] = "same"
    """Where it lies: `same` beside the parameters, 4 bytes a trainable parameter divided by the ranks; `cpu` in the
    machine's memory, to which each step copies the parameters."""


class CheckpointConfig(Config):
    """When checkpoints are written, and how many are kept."""

    every: int = Field(default=500, ge=1)
    """Steps between checkpoints; there is always one at the end."""
    keep_last: int = Field(default=2, ge=1)
    """Complete checkpoints kept; older ones are deleted once a newer one is complete."""
    best_metric: str | None = None
    """A figure of the validation. The checkpoint with the best one is kept besides, and one is written whenever a
    validation finds a better one; null keeps none for its figure."""
    best_is: Literal["lower", "higher"] = "lower"
    """Which values of `best_metric` are better."""
