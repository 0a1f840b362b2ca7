"""How the parameters are moved, and how the work is laid out on the devices."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from schemas.config import Config


class OptimizerConfig(Config):
    """AdamW and its learning rate."""

    learning_rate: float = Field(default=1e-5, gt=0.0)
    """Peak learning rate of AdamW; constant after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate grows linearly from 0 (exclusive) to its peak."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay of the first and second moment, each in [0, 1)."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW's decoupled weight decay."""
    clip_norm: float = Field(default=1.0, ge=0.0)
    """The gradient's global 2-norm is clipped to this; 0 does not clip."""

    @field_validator("betas")
    @classmethod
    def _betas_in_range(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError("each must be at least 0 and less than 1")
        return betas


class EngineConfig(Config):
    """How model and optimizer lie in memory."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: 0 shards nothing, 1 the optimizer, 2 gradients too, 3 parameters too."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of parameters and activations. With bfloat16 the optimizer keeps float32 master weights."""
    gradient_checkpointing: bool = False
    """Recompute the DiT's activations in the backward pass: less memory, about a third more compute."""
