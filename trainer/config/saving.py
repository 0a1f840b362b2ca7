"""What a run keeps: the moving average, checkpoints and logs."""

from __future__ import annotations

from pydantic import Field

from schemas.config import Config


class EmaConfig(Config):
    """The exponential moving average of the trainable parameters."""

    enabled: bool | None = None
    """Whether the run keeps one; null leaves it to the stage, of which `align` keeps none. A run without one exports
    its raw weights only."""
    decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """The share of the old average kept at each step once warm; at step s it is min((1 + s) / (10 + s), decay)."""


class CheckpointConfig(Config):
    """When checkpoints are written, and how many are kept."""

    every: int = Field(default=500, ge=1)
    """Steps between checkpoints; there is always one at the end."""
    keep_last: int = Field(default=2, ge=1)
    """Complete checkpoints kept; older ones are deleted once a newer one is complete."""


class LoggingConfig(Config):
    """What is written of each step."""

    every: int = Field(default=1, ge=1)
    """Steps between TensorBoard points (log.jsonl has every step)."""
