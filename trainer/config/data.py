"""Which samples a run takes, in which proportions and sizes, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from schemas.config import Config
from schemas.masks import MaskStatus
from trainer.data.buckets import TOKEN, BucketChoice

DATASET_LIMIT = 255
"""Data sets of a mixture, at most."""


class DatasetConfig(Config):
    """One part of a mixture."""

    shards: list[str] = Field(min_length=1)
    """Packed folders, as `editmill pack` writes them, with WebDataset shards; their samples are pooled. Edit samples,
    or images with captions, from which the model learns to paint from text alone."""
    weight: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Relative: the share of the samples that a run takes from here is this over the sum of the weights. A data set
    that is through starts its next epoch, whether the others are through or not."""
    name: str | None = None
    """What logs call it; null takes the first folder's path."""
    subsets: list[str] | None = None
    """As `DataConfig.subsets`, which null takes."""
    mask_statuses: list[MaskStatus] | None = Field(default=None, min_length=1)
    """As `DataConfig.mask_statuses`, which null takes. Images with captions have no mask, and are all taken."""
    region_weighting: bool = True
    """Whether the edited region is weighed; false gives every latent cell of these samples the weight 1."""


class DropConfig(Config):
    """How often a row loses what it is conditioned on, so that guidance has something to go away from. Decided by the
    seed and the row's position; the three exclude each other, and what is left keeps everything."""

    text: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the rows that lose the instruction."""
    image: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the rows that lose the references. Without them there is nothing to copy: such a row is taken as edited
    everywhere, with the weight 1."""
    both: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the rows that lose instruction and references."""

    @model_validator(mode="after")
    def _shares(self) -> DropConfig:
        if self.text + self.image + self.both > 1.0 + 1e-9:
            raise ValueError("text + image + both must be at most 1")
        return self


class DataConfig(Config):
    """The samples of a run: either `shards`, or a mixture of `datasets`."""

    shards: list[str] = Field(default=[])
    """The short way to one data set: packed folders, as in `DatasetConfig.shards`."""
    datasets: list[DatasetConfig] = Field(default=[], max_length=DATASET_LIMIT)
    """A weighted mixture, which any stretch of the run holds to within a few rows."""
    subsets: list[str] = Field(default=["train"])
    """Subsets to take of folders that were packed in subsets; the others are counted and left out. Folders without
    subsets are taken whole."""
    mask_statuses: list[MaskStatus] = Field(default=[MaskStatus.OK, MaskStatus.GLOBAL], min_length=1)
    """Samples with other mask statuses are left out, and counted."""
    resolution: int = Field(default=512, ge=16, le=4096)
    """The budget of image tokens, as the side in pixels of the square that has as many; a multiple of 16 (8 pixels a
    latent cell, 2 cells a token)."""
    buckets: BucketChoice = "aspect"
    """`aspect`: reference, target and mask are brought to the size whose aspect ratio is nearest to the target's, of
    seven that have about `resolution`^2 pixels and never more. `square`: all to the square."""
    bucket_rows: int | None = Field(default=None, ge=1)
    """Rows that follow each other in one bucket; null takes the whole global batch. A multiple of batch_size, since the
    rows of a forward pass share a size, that divides the global batch; a multiple of batch_size x ranks gives every
    rank the same size at the same time. The order follows from it: leave it when the number of ranks changes."""
    drop: DropConfig = DropConfig()
    """Dropping of text and images."""
    max_bad_samples: int = Field(default=100, ge=0)
    """A sample that cannot be read is skipped, logged with its key and counted; more than this many, and
    `max_bad_share`, stop the run."""
    max_bad_share: float = Field(default=0.001, ge=0.0, le=1.0)
    """Share of the samples so far that may be bad, on top of `max_bad_samples`."""
    cache: Literal["auto", "off"] = "auto"
    """`auto`: latents, and features of the towers, that `editmill cache` stored beside the packed folders are taken
    where they are those of this model and these sizes; the run says which are, and why others are not."""
    workers: int = Field(default=0, ge=0)
    """Processes on each rank that read and decode; 0 does it between the steps."""

    @field_validator("resolution")
    @classmethod
    def _whole_tokens(cls, resolution: int) -> int:
        if resolution % TOKEN:
            raise ValueError(f"must be a multiple of {TOKEN}")
        return resolution

    @model_validator(mode="after")
    def _one_way(self) -> DataConfig:
        if bool(self.shards) == bool(self.datasets):
            raise ValueError("give either shards or datasets")
        names = [dataset.name for dataset in self.mixture]
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two data sets are called {twice[0]}: give one of them another name")
        return self

    @property
    def mixture(self) -> tuple[DatasetConfig, ...]:
        """The data sets, with name, subsets and mask statuses filled in; `shards` as one of weight 1."""
        return tuple(
            DatasetConfig(
                shards=one.shards,
                weight=one.weight,
                name=one.name or str(Path(one.shards[0])),
                subsets=self.subsets if one.subsets is None else one.subsets,
                mask_statuses=self.mask_statuses if one.mask_statuses is None else one.mask_statuses,
                region_weighting=one.region_weighting,
            )
            for one in self.datasets or [DatasetConfig(shards=self.shards)]
        )
