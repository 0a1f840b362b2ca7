"""What is cached, of which model, and where that runs."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from jobs.runners.config import RunnerConfig
from schemas.config import Config
from trainer.cache.identity import FloatName
from trainer.data.buckets import TOKEN, BucketChoice


class CacheConfig(Config):
    """One cache of one packed folder."""

    packed: Path
    """Packed folder with WebDataset shards. The cache goes beside it, into PACKED.cache."""
    model: str = Field(min_length=1)
    """Folder of a model, as a training run names it."""
    resolution: int = Field(default=512, ge=16, le=4096)
    """As `data.resolution` of the runs that will use it."""
    buckets: BucketChoice = "aspect"
    """As `data.buckets` of those runs."""
    compute: FloatName = "bfloat16"
    """As `engine.dtype` of those runs: the type in which the frozen parts compute."""
    stored: FloatName = "bfloat16"
    """Type of what is stored. float32 loses nothing, at twice the size."""
    features: bool = False
    """Store the features of the VLM and of SigLIP, too: megabytes a sample, where latents are some 128 KiB."""
    dropped: bool = False
    """Store features for prompts without instruction, without images and without both, for runs with `data.drop`."""
    batch_size: int = Field(default=8, ge=1)
    """Pictures that go through a frozen part together; halved where the GPU's memory does not hold them."""
    device: str = "auto"
    """A torch device; "auto" is cuda where there is one, else cpu."""
    runner: RunnerConfig = Field(default_factory=RunnerConfig)
    """Where it runs; on Ray each worker loads the frozen parts once."""

    @field_validator("resolution")
    @classmethod
    def _whole_tokens(cls, resolution: int) -> int:
        if resolution % TOKEN:
            raise ValueError(f"must be a multiple of {TOKEN}")
        return resolution

    @model_validator(mode="after")
    def _dropped_of_features(self) -> CacheConfig:
        if self.dropped and not self.features:
            raise ValueError("dropped belongs to features, which are not to be stored")
        return self
