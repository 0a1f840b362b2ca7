"""Which samples a run takes, and how they are read."""

from __future__ import annotations

from pydantic import Field, field_validator

from schemas.config import Config
from schemas.masks import LATENT_STRIDE, MaskStatus

PATCH = 2
"""Latent cells along one side of a FLUX image token."""


class DataConfig(Config):
    """The samples of a run."""

    shards: list[str] = Field(min_length=1)
    """Packed folders, as `editmill pack` writes them, with WebDataset shards; their samples are pooled."""
    subsets: list[str] = Field(default=["train"])
    """Subsets to take of folders that were packed in subsets; the others are counted and left out. Folders without
    subsets are taken whole."""
    mask_statuses: list[MaskStatus] = Field(default=[MaskStatus.OK, MaskStatus.GLOBAL], min_length=1)
    """Samples with other mask statuses are left out, and counted."""
    resolution: int = Field(default=512, ge=16, le=4096)
    """Side of the square in pixels to which target, reference and mask are cropped and resized; a multiple of 16
    (8 pixels a latent cell, 2 cells a token)."""
    max_bad_samples: int = Field(default=100, ge=0)
    """A sample that cannot be read is skipped, logged with its key and counted; more than this many stop the run."""
    workers: int = Field(default=0, ge=0)
    """Processes on each rank that read and decode; 0 does it between the steps."""

    @field_validator("resolution")
    @classmethod
    def _whole_tokens(cls, resolution: int) -> int:
        if resolution % (LATENT_STRIDE * PATCH):
            raise ValueError(f"must be a multiple of {LATENT_STRIDE * PATCH}")
        return resolution

    @property
    def image_tokens(self) -> int:
        """Image tokens of one sample in the DiT."""
        return (self.resolution // (LATENT_STRIDE * PATCH)) ** 2
