"""Base of the sources for edit data sets that the Hugging Face hub has as Parquet with the images inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import pyarrow as pa
import pyarrow.types as pat
from pydantic import Field, field_validator

from pipelines.parquet_files import read_footer
from pipelines.source import Partition, Source
from pipelines.sources.hub_files import files_of_split
from pipelines.sources.pair_rows import DECLARED_MASK, PairRows, make_pair
from pipelines.sources.parquet_rows import DEFAULT_PARTITION_BYTES, read_rows, row_partitions
from pipelines.step import StepResult
from schemas.config import Config
from schemas.errors import ConfigError, RowRejected, SchemaError
from schemas.record import RecordSchema
from schemas.records import EDIT_PAIR


@dataclass(frozen=True)
class HubLayout:
    """The columns of a data set's Parquet files.

    Args:
        dataset: what rows carry as their source.
        licence: what rows carry as their licence, as the data set's card names it.
        reference, target, instruction: the column of each; the first spelling that a file has is taken.
        edit_type: column of the data set's own term for the kind of edit, where it has one.
        declared_mask: column of a mask, where it has one.
        identity: columns that together are the data set's name for a row.
        scores: columns of numbers that `minimum_scores` may look at.
    """

    dataset: str
    licence: str
    reference: tuple[str, ...]
    target: tuple[str, ...]
    instruction: tuple[str, ...]
    edit_type: str | None = None
    declared_mask: str | None = None
    identity: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()


class HubPairsConfig(Config):
    """Which files, and what every row says of itself."""

    paths: tuple[str, ...] = Field(min_length=1)
    """The folder that the data set was downloaded to, Parquet files, or globs; local or on any file system that pyarrow
    or fsspec reaches."""

    split: str | None = "train"
    """Which split: a name, a pattern with `*`, or null for all. The files' names tell (`train-00000-of-00051.parquet`);
    a file whose name tells none is taken."""

    source: str | None = None
    """Name of the data set that rows carry, instead of its own."""

    licence: str | None = None
    """Licence that rows carry, instead of the one that the data set's card names."""

    rows_per_partition: int = Field(default=64, ge=1)
    """Small row groups are joined up to this many rows. All images of a partition are in memory together."""

    bytes_per_partition: int = Field(default=DEFAULT_PARTITION_BYTES, ge=1)
    """A row group of more bytes than this is cut into several partitions."""

    minimum_scores: dict[str, float] = Field(default_factory=dict)
    """Column of scores -> the least value of rows to take, inclusive. Others are rejected (`score_below`,
    `score_missing`). Only for data sets whose rows have scores."""

    keep_declared_mask: bool = False
    """Carry the data set's own mask along in a column `declared_mask`, to compare with, or for `declared_masks`. Only
    for data sets that ship one."""

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


HubConfigT = TypeVar("HubConfigT", bound=HubPairsConfig)


class HubPairs(Source[HubConfigT]):
    """Rows of one data set as `EditPair`. A subclass gives name, config class and layout.

    Images stay as they are, undecoded. Only the columns that are needed are read.
    """

    version: ClassVar[int] = 1
    provides: ClassVar[RecordSchema | None] = EDIT_PAIR
    layout: ClassVar[HubLayout]

    def __init__(self, config: HubConfigT) -> None:
        """Keep the config.

        Raises:
            ConfigError: it asks for scores or a mask that the data set has not.
        """
        super().__init__(config)
        for name in config.minimum_scores:
            if name not in self.layout.scores:
                there = ", ".join(self.layout.scores) or "none"
                rule = f"is no column of scores of {self.layout.dataset}"
                raise ConfigError(f"{self.name}.minimum_scores", name, rule, f"Its scores: {there}.")
        if config.keep_declared_mask and self.layout.declared_mask is None:
            raise ConfigError(
                f"{self.name}.keep_declared_mask",
                True,
                f"cannot be: {self.layout.dataset} has no mask",
                "Leave it out.",
            )

    def partitions(self) -> Sequence[Partition]:
        """Ranges of rows, in the order of the files. Reads footers only.

        Raises:
            InputError: a path means no file, no file is of the split, a file is no Parquet, or there is no row at all.
            SchemaError: a file lacks a column, or has it with another type.
        """
        files = files_of_split(self.config.paths, self.config.split)
        for file in files:
            self._columns(read_footer(file.path).schema.to_arrow_schema(), file.path)
        return row_partitions(files, self.config.rows_per_partition, self.config.bytes_per_partition)

    def read(self, partition: Partition) -> StepResult:
        """The pairs of one partition; rows that make none are rejected.

        Raises:
            InputError: the file is damaged.
            SchemaError: a column has a type that cannot hold what it should.
        """
        columns = self._columns(read_footer(partition.path).schema.to_arrow_schema(), partition.path)
        extra = (DECLARED_MASK,) if self.config.keep_declared_mask else ()
        rows = PairRows(self, partition.path, self._dataset, extra)
        for position, values in read_rows(partition, list(columns.values())):
            try:
                rows.keep(self._pair(columns, values, f"{partition.path.rpartition('/')[2]}#{position}"))
            except RowRejected as rejection:
                rows.reject(f"row {position}", rejection)
        return rows.result()

    def instruction_of(self, value: object) -> object:
        """The instruction in the value of its column; a subclass chooses among several."""
        return value

    def _pair(self, columns: Mapping[str, str], values: Mapping[str, Any], place: str) -> dict[str, Any]:
        def value(field: str) -> Any:
            return values[columns[field]] if field in columns else None

        for column, least in self.config.minimum_scores.items():
            _check_score(column, values[column], least)
        names = [values[column] for column in self.layout.identity]
        edit_type = value("edit_type")
        pair = make_pair(
            [_image(value("reference"))],
            _image(value("target")),
            self.instruction_of(value("instruction")),
            edit_type=None if edit_type is None else str(edit_type),
            source=self._dataset,
            licence=self.config.licence or self.layout.licence,
            source_key=place if not names or None in names else "-".join(map(str, names)),
        )
        if self.config.keep_declared_mask:
            pair[DECLARED_MASK.name] = _image(value("declared_mask"))
        return pair

    @property
    def _dataset(self) -> str:
        return self.config.source or self.layout.dataset

    def _columns(self, schema: pa.Schema, path: str) -> dict[str, str]:
        """Field -> the column of a file that holds it, for the columns to read."""
        layout = self.layout
        needed = {"reference": layout.reference, "target": layout.target, "instruction": layout.instruction}
        needed |= {f"column {name}": (name,) for name in (*layout.identity, *self.config.minimum_scores)}
        columns: dict[str, str] = {}
        for field, spellings in needed.items():
            found = next((name for name in spellings if name in schema.names), None)
            if found is None:
                raise SchemaError(
                    path,
                    schema.names,
                    f"has no column '{spellings[0]}', which {layout.dataset} has",
                    "Is it another data set? edit_pairs_parquet reads columns of any name.",
                )
            columns[field] = found
        optional = {"edit_type": layout.edit_type}
        if self.config.keep_declared_mask:
            optional["declared_mask"] = layout.declared_mask
        columns |= {field: name for field, name in optional.items() if name is not None and name in schema.names}
        for field in ("reference", "target", "declared_mask"):
            column = columns.get(field)
            if column is not None and not _holds_images(schema.field(column).type):
                raise SchemaError(
                    f"{path}: {column}",
                    str(schema.field(column).type),
                    "must be struct<bytes, path> or binary",
                    "Fetch the data set as released, with its images inside.",
                )
        return columns


def _holds_images(kind: pa.DataType) -> bool:
    if pat.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0 and _holds_images(kind.field("bytes").type))
    return bool(pat.is_binary(kind) or pat.is_large_binary(kind) or pat.is_null(kind))


def _image(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    return {"bytes": value["bytes"], "path": value.get("path")}


def _check_score(column: str, value: Any, least: float) -> None:
    if not isinstance(value, int | float) or value != value:
        raise RowRejected("score_missing", f"'{column}' is {value!r}, and at least {least:g} is wanted")
    if value < least:
        raise RowRejected("score_below", f"'{column}' is {value:g}, below {least:g}")
