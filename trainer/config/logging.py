"""Where a run tells its figures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.config import Config


class WandbConfig(Config):
    """Weights & Biases; needs the package `wandb` (`pip install ".[wandb]"`)."""

    project: str = "editmill"
    """Project that the run appears in."""
    entity: str | None = None
    """User or team; null takes the account's own."""
    name: str | None = None
    """The run's name; null takes the name of its folder."""
    tags: list[str] = Field(default=[])
    """Tags of the run."""
    mode: Literal["online", "offline"] = "online"
    """`offline` writes into the run's folder without a network; `wandb sync` sends it later."""


class LoggingConfig(Config):
    """What is told of each step, and where. log.jsonl has every step and every figure in any case."""

    every: int = Field(default=1, ge=1)
    """Steps between points in TensorBoard and Weights & Biases, and between lines where there is no terminal."""
    tensorboard: bool = True
    """Write `tensorboard/` in the run's folder."""
    wandb: WandbConfig | None = None
    """Tell Weights & Biases too; null does not."""
