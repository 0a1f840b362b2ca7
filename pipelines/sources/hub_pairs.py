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
from pipelines.sources.pair_rows import DECLARED_MASK, SOURCE_KEY, PairRows, make_pair
from pipelines.sources.parquet_rows import DEFAULT_PARTITION_BYTES, read_rows, row_partitions
from pipelines.step import StepResult
from schemas.config import Config
from schemas.errors import RowRejected, SchemaError
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

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class ScoredPairsConfig(HubPairsConfig):
    """As the base, for data sets whose rows have scores."""

    minimum_scores: dict[str, float] = Field(default_factory=dict)
    """Column -> the least value of rows to take, inclusive. Others are rejected (`score_below`, `score_missing`)."""


class MaskedPairsConfig(HubPairsConfig):
    """As the base, for data sets that ship a mask."""

    keep_declared_mask: bool = False
    """Carry the data set's own mask along in a column `declared_mask`, to compare with. It never becomes the mask."""


HubConfigT = TypeVar("HubConfigT", bound=HubPairsConfig)


class HubPairs(Source[HubConfigT]):
    """Rows of one data set as `EditPair`, with a column `source_key`. A subclass gives name, config class and layout.

    Images stay as they are, undecoded. Only the columns that are needed are read.
    """

    version: ClassVar[int] = 1
    provides: ClassVar[RecordSchema | None] = EDIT_PAIR
    layout: ClassVar[HubLayout]

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
        keeps_mask = getattr(self.config, "keep_declared_mask", False)
        rows = PairRows(self, partition.path, self._dataset, (SOURCE_KEY, DECLARED_MASK)[: 1 + keeps_mask])
        wanted = [name for name in columns.values() if name is not None]
        for position, values in read_rows(partition, wanted):
            try:
                rows.keep(self._pair(columns, values, partition.path, position, keeps_mask))
            except RowRejected as rejection:
                rows.reject(f"row {position}", rejection)
        return rows.result()

    def instruction_of(self, value: object) -> object:
        """The instruction in the value of its column; a subclass chooses among several."""
        return value

    def _pair(
        self, columns: Mapping[str, str | None], values: Mapping[str, Any], path: str, position: int, keeps_mask: bool
    ) -> dict[str, Any]:
        def value(field: str) -> Any:
            column = columns.get(field)
            return None if column is None else values[column]

        for column, least in getattr(self.config, "minimum_scores", {}).items():
            _check_score(column, values[column], least)
        names = [str(values[column]) for column in self.layout.identity]
        edit_type = value("edit_type")
        pair = make_pair(
            [_image(value("reference"))],
            _image(value("target")),
            self.instruction_of(value("instruction")),
            edit_type=None if edit_type is None else str(edit_type),
            source=self._dataset,
            licence=self.config.licence or self.layout.licence,
            source_key="-".join(names) or f"{path.rpartition('/')[2]}#{position}",
        )
        return {**pair, DECLARED_MASK.name: _image(value("declared_mask"))} if keeps_mask else pair

    @property
    def _dataset(self) -> str:
        return self.config.source or self.layout.dataset

    def _columns(self, schema: pa.Schema, path: str) -> dict[str, str | None]:
        """Which column of a file holds what; None for what the file has not and need not have."""
        layout = self.layout
        columns: dict[str, str | None] = {}
        for field in ("reference", "target", "instruction"):
            spellings: tuple[str, ...] = getattr(layout, field)
            columns[field] = next((name for name in spellings if name in schema.names), None)
            if columns[field] is None:
                raise SchemaError(
                    path,
                    schema.names,
                    f"has no column '{spellings[0]}', which {layout.dataset} has",
                    "Is it another data set? edit_pairs_parquet reads columns of any name.",
                )
        scores = list(getattr(self.config, "minimum_scores", {}))
        for name in (*layout.identity, *scores):
            if name not in schema.names:
                raise SchemaError(path, schema.names, f"has no column '{name}'", "Fetch the data set as released.")
            columns[f"column {name}"] = name
        keeps_mask = getattr(self.config, "keep_declared_mask", False)
        for field, optional in (("edit_type", layout.edit_type), ("declared_mask", layout.declared_mask)):
            if optional in schema.names and (keeps_mask or field != "declared_mask"):
                columns[field] = optional
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


def known_scores(value: dict[str, float], scores: Sequence[str]) -> dict[str, float]:
    """`value`, whose keys must be columns of scores; for validators.

    Raises:
        ValueError: one is not.
    """
    unknown = sorted(set(value) - set(scores))
    if unknown:
        raise ValueError(f"'{unknown[0]}' is no score; scores are {', '.join(scores)}")
    return value


def _holds_images(kind: pa.DataType) -> bool:
    if pat.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0 and pat.is_binary(kind.field("bytes").type))
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
