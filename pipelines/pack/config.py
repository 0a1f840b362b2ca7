"""What a packed folder shall look like."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.config import Config
from schemas.masks import MaskStatus
from schemas.record import RecordSchema
from schemas.records import EDIT_SAMPLE, IMAGE_RECORD

Format = Literal["webdataset", "parquet"]

_PREFIX = re.compile(r"[a-z][a-z0-9_]*(-[a-z0-9_]+)*")


class PackConfig(Config):
    """Everything that decides the bytes of a packed folder, next to the samples themselves."""

    record: Literal["edits", "images"] = "edits"
    """What is packed: `edits` are EditSample rows, `images` are ImageRecord rows whose image was fetched."""

    formats: tuple[Format, ...] = ("webdataset", "parquet")
    """Which shards are written. With both, shard N of the one holds the samples of shard N of the other."""

    prefix: str = ""
    """First part of a shard's name, `edits-000000.tar`. Left empty, it is the name of the record."""

    samples_per_shard: int = Field(default=1000, ge=1)
    """A shard is closed before it would hold more samples."""

    bytes_per_shard: int = Field(default=512 * 2**20, ge=1)
    """A shard is closed before its tar members, headers included, would take more bytes. One sample that is larger by
    itself gets a shard of its own."""

    row_group_rows: int = Field(default=100, ge=1)
    """A Parquet row group is closed before it would hold more rows: viewers load a whole one to show one image."""

    row_group_bytes: int = Field(default=64 * 2**20, ge=1)
    """A Parquet row group is closed before its samples would take more bytes; a single larger one stands alone."""

    mask_statuses: tuple[MaskStatus, ...] = (MaskStatus.OK, MaskStatus.GLOBAL)
    """Mask statuses that are packed (`edits` only); others are rejected with reason `mask_status_...`: a pair in which
    nothing was edited, or whose images do not fit, would be trained on silently."""

    require_caption: bool = True
    """Reject an image without any caption (`images` only). Otherwise it is packed without its .txt member."""

    caption_order: tuple[Literal["long", "short", "original"], ...] = ("long", "short", "original")
    """Which caption becomes the .txt member (`images` only): the first of these that the row has. `original` is the
    column `caption`; the others are kinds in `captions`. The .json member always holds all of them."""

    @model_validator(mode="before")
    @classmethod
    def _default_prefix(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("prefix"):
            return {**values, "prefix": values.get("record", "edits")}
        return values

    @field_validator("formats", "mask_statuses", "caption_order")
    @classmethod
    def _some_and_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values or len(set(values)) != len(values):
            raise ValueError("must name at least one, and none twice")
        return values

    @field_validator("formats")
    @classmethod
    def _in_one_order(cls, values: tuple[Format, ...]) -> tuple[Format, ...]:
        return tuple(sorted(values, reverse=True))

    @field_validator("prefix")
    @classmethod
    def _plain_prefix(cls, value: str) -> str:
        if _PREFIX.fullmatch(value) is None:
            raise ValueError("must be lower-case letters, digits, underscores and single hyphens, without a dot")
        return value

    @property
    def record_schema(self) -> RecordSchema:
        """The record that is packed."""
        return EDIT_SAMPLE if self.record == "edits" else IMAGE_RECORD
