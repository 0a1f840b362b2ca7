"""The low-rank adapters of the stage `lora`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from schemas.config import Config


class LoraConfig(Config):
    """Low-rank adaptation (Hu et al., arXiv:2106.09685): W x + (alpha / rank) * B A x with W frozen. Read by the stage
    `lora` only."""

    rank: int = Field(default=32, ge=1, le=1024)
    """Rows of A and columns of B."""
    alpha: float | None = Field(default=None, gt=0.0)
    """The adapter's output is scaled by alpha / rank; null takes the rank, a scale of 1."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the adapter's inputs dropped in training."""
    modules: list[str] | None = None
    """Module-path patterns, `*` standing for one path segment; the linear layers at and below the modules that match
    get an adapter. null takes the modules of the stage `edit`."""
    connectors: Literal["adapted", "full", "frozen"] = "adapted"
    """What becomes of the conditioner: `adapted` as `modules` says; `full`: all of it trains, without adapters;
    `frozen`: none of it."""
    export: Literal["adapter", "merged"] = "adapter"
    """What the export holds: `adapter`, the adapters of the DiT as a peft folder, which needs the model it was trained
    on; `merged`, the whole DiT with the adapters folded into its weights. The conditioner is whole in both."""

    @field_validator("modules")
    @classmethod
    def _not_empty(cls, patterns: list[str] | None) -> list[str] | None:
        if patterns is not None and not patterns:
            raise ValueError("must hold at least one pattern, or be null")
        return patterns

    @property
    def scale_numerator(self) -> float:
        """alpha, the rank where none is given."""
        return float(self.rank) if self.alpha is None else self.alpha
