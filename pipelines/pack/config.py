"""What a packed folder shall look like."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from schemas.config import Config
from schemas.masks import MaskStatus
from schemas.record import RecordSchema
from schemas.records import EDIT_SAMPLE, IMAGE_RECORD

Format = Literal["webdataset", "parquet"]

_PREFIX = re.compile(r"[a-z][a-z0-9_]*(-[a-z0-9_]+)*")
_SUBSET = re.compile(r"[a-z][a-z0-9_]*")


class SubsetRule(Config):
    """Which samples a subset takes, all conditions together, before the shares of the others are drawn. It looks at the
    sample alone."""

    min_edited_fraction: float | None = Field(default=None, ge=0.0, le=1.0)
    """Least edited fraction, inclusive (`edits` only)."""

    max_edited_fraction: float | None = Field(default=None, ge=0.0, le=1.0)
    """Largest edited fraction, inclusive (`edits` only)."""

    mask_statuses: tuple[MaskStatus, ...] = ()
    """Only these mask statuses (`edits` only)."""

    edit_types: tuple[str, ...] = ()
    """Only these kinds of edits (`edits` only)."""

    sources: tuple[str, ...] = ()
    """Only samples of these data sets."""

    @model_validator(mode="after")
    def _has_a_condition(self) -> SubsetRule:
        if self == SubsetRule.model_construct():
            raise ValueError("must have a condition")
        return self

    @property
    def for_edits(self) -> bool:
        """Whether a condition speaks of what only edits have."""
        bounds = (self.min_edited_fraction, self.max_edited_fraction)
        return bounds != (None, None) or bool(self.mask_statuses or self.edit_types)


def _kind(value: Any) -> str:
    return "rule" if isinstance(value, dict | SubsetRule) else "share"


Subset = Annotated[Annotated[float, Tag("share")] | Annotated[SubsetRule, Tag("rule")], Discriminator(_kind)]


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

    subsets: dict[str, Subset] = Field(default_factory=dict)
    """Name -> share of the samples (`{train: 0.98, validation: 0.01, test: 0.01}`, together 1), or a rule that takes
    its samples before the shares are drawn (`{tiny: {max_edited_fraction: 0.05}}`; of two rules that fit, the first by
    name). Each subset has shards of its own, and the index names it. Left empty, all samples are together."""

    subset_by: Literal["images", "key"] = "images"
    """What a share is drawn by, the same at each packing. `images`: samples that share an image, as reference or
    target, directly or through others, are in one subset: the turns of one image, and all edits of it. Their original
    image decides, so they stay where they are when other samples, further turns or further edits are added; only a
    sample that joins two originals, or whose target is one, may move those it belongs to. `key`: each sample by itself;
    it stays whatever is added."""

    title: str = ""
    """Heading of the dataset card."""

    @field_validator("subsets", mode="before")
    @classmethod
    def _known_conditions(cls, subsets: Any) -> Any:
        for name, value in subsets.items() if isinstance(subsets, dict) else ():
            unknown = sorted(set(value) - set(SubsetRule.model_fields)) if isinstance(value, dict) else []
            if unknown:
                known = ", ".join(SubsetRule.model_fields)
                raise ValueError(f"'{name}': '{unknown[0]}' is no condition; conditions are {known}")
        return subsets

    @field_validator("subsets")
    @classmethod
    def _subsets_are_whole(cls, subsets: dict[str, Subset]) -> dict[str, Subset]:
        for name, value in subsets.items():
            if _SUBSET.fullmatch(name) is None or name == "all":
                raise ValueError(f"'{name}': must be lower-case letters, digits and underscores, and not 'all'")
            if isinstance(value, float) and not 0.0 < value <= 1.0:
                raise ValueError(f"'{name}': a share must be above 0 and at most 1")
        shares = [value for value in subsets.values() if isinstance(value, float)]
        if subsets and not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise ValueError(f"the shares add up to {sum(shares):g}, and must to 1, so that every sample has a subset")
        return {name: subsets[name] for name in sorted(subsets)}

    @model_validator(mode="after")
    def _rules_fit_the_record(self) -> PackConfig:
        for name, value in self.subsets.items():
            if self.record == "images" and isinstance(value, SubsetRule) and value.for_edits:
                raise ValueError(f"subsets: '{name}' has a condition that only edits can meet")
        return self

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
    def subset_names(self) -> tuple[str | None, ...]:
        """The subsets, by name; where there are none, one without a name."""
        return tuple(self.subsets) or (None,)

    @property
    def record_schema(self) -> RecordSchema:
        """The record that is packed."""
        return EDIT_SAMPLE if self.record == "edits" else IMAGE_RECORD
