"""Reading a packed folder through its manifest and index; never through a listing of its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.shards.members import row_from_members
from pipelines.shards.table import from_stored
from pipelines.shards.tar_samples import TarSample, sample_from_bytes, tar_samples
from schemas.errors import InputError, SchemaVersionError, ShardError
from schemas.layout import INDEX
from schemas.manifest import FileEntry, ShardManifest, read_manifest
from schemas.record import RecordSchema, check_version
from schemas.records import EDIT_SAMPLE, IMAGE_RECORD

Row = dict[str, Any]
"""One sample: every column of its record, as Python values; images as {"bytes": ..., "path": ...}."""

_MEND = "Pack again, or fetch the file again."


@dataclass(frozen=True)
class PackedFolder:
    """A packed folder, opened with `open_packed`.

    Args:
        folder: where it is.
        manifest: what it says of itself.
    """

    folder: Path
    manifest: ShardManifest

    @property
    def record(self) -> RecordSchema:
        """The record that was packed."""
        return record_of(self.manifest)

    @cached_property
    def index(self) -> pa.Table:
        """The index, one row a sample, in shard order.

        Raises:
            ShardError: it is missing or damaged.
        """
        return read_index(self.folder, self.manifest.index)

    @cached_property
    def _position_of_key(self) -> Mapping[str, int]:
        return {key: position for position, key in enumerate(self.index["key"].to_pylist())}

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def sample(self, key: str) -> Row:
        """The sample with this key.

        Raises:
            InputError: there is none.
            ShardError: its shard is missing or damaged.
        """
        position = self._position_of_key.get(key)
        if position is None:
            raise InputError("key", key, f"is not in {self.folder}", "See the column `key` of index.parquet.")
        return self.sample_at(position)

    def sample_at(self, position: int) -> Row:
        """The sample at a position of the index, 0 <= position < len(self), without reading the rest of its shard.

        Raises:
            ShardError: its shard is missing or damaged.
        """
        entry = self.index.slice(position, 1).to_pylist()[0]
        if entry["size"] == 0:
            return self._parquet_row(entry["shard"], entry["offset"])
        return self.sample_of(entry)

    def sample_of(self, entry: Mapping[str, Any]) -> Row:
        """The sample that a row of the index (`key`, `shard`, `offset`, `size`) places in a tar.

        Raises:
            ShardError: its shard is missing or damaged.
        """
        try:
            with (self.folder / entry["shard"]).open("rb") as stream:
                stream.seek(entry["offset"])
                data = stream.read(entry["size"])
        except OSError as error:
            raise ShardError(entry["shard"], str(error), "cannot be read", _MEND) from error
        sample = sample_from_bytes(data, entry["shard"])
        if sample.key != entry["key"]:
            raise ShardError(entry["shard"], sample.key, f"should hold {entry['key']} here by the index", _MEND)
        return row_of(sample, entry["shard"])

    def samples(self) -> Iterator[Row]:
        """Every sample, in shard order, one in memory at a time.

        Raises:
            ShardError: a shard is missing or damaged.
        """
        formats = {entry.format for entry in self.manifest.shards}
        for entry in self.manifest.shards:
            if entry.format == "webdataset":
                for sample in tar_samples(self.folder / entry.name):
                    yield row_of(sample, entry.name)
            elif "webdataset" not in formats:
                for group in parquet_groups(self.folder / entry.name, self.record):
                    for number in range(group.num_rows):
                        yield group.slice(number, 1).to_pylist()[0]

    def _parquet_row(self, name: str, number: int) -> Row:
        before = 0
        try:
            with pq.ParquetFile(self.folder / name) as file:
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    if number < before + rows:
                        table = file.read_row_group(group).slice(number - before, 1)
                        table.validate(full=True)
                        row: Row = from_stored(table, self.record).to_pylist()[0]
                        return row
                    before += rows
        except (pa.ArrowException, OSError) as error:
            raise ShardError(name, str(error), "cannot be read", _MEND) from error
        raise ShardError(name, f"row {number}", f"has only {before} rows", _MEND)


def open_packed(folder: Path) -> PackedFolder:
    """Open a packed folder.

    Raises:
        InputError: it is none, or its packing was not finished.
        SchemaVersionError: written by a newer editmill.
        ShardError: its manifest is damaged.
    """
    manifest = read_manifest(folder)
    record = record_of(manifest)
    if manifest.record_version > record.version:
        raise SchemaVersionError(
            f"{record.name} schema version",
            manifest.record_version,
            f"this editmill reads versions up to {record.version}",
            "Upgrade editmill to read these shards.",
        )
    return PackedFolder(folder, manifest)


def record_of(manifest: ShardManifest) -> RecordSchema:
    """The record that a manifest speaks of."""
    return EDIT_SAMPLE if manifest.record == EDIT_SAMPLE.name else IMAGE_RECORD


def read_index(folder: Path, entry: FileEntry) -> pa.Table:
    """The index of a packed folder.

    Raises:
        SchemaVersionError: written by a newer editmill.
        SchemaError: it lacks a column.
        ShardError: it is missing or damaged.
    """
    try:
        table = pq.read_table(folder / entry.name)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ShardError(entry.name, str(error), "cannot be read", _MEND) from error
    INDEX.check(table)
    return table


def parquet_groups(path: Path, record: RecordSchema) -> Iterator[pa.Table]:
    """The row groups of a Parquet shard, as tables of the record.

    Raises:
        SchemaVersionError, SchemaError: it is another record, or a newer one.
        ShardError: it is missing or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            check_version(file.schema_arrow, record)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                table.validate(full=True)
                yield from_stored(table, record)
    except (pa.ArrowException, OSError) as error:
        raise ShardError(path.name, str(error), "cannot be read", _MEND) from error


def row_of(sample: TarSample, shard: str) -> Row:
    """A tar's sample as a record row.

    Raises:
        SchemaVersionError: written by a newer editmill.
        ShardError: members are missing, or the .json member is not one of ours.
    """
    try:
        return row_from_members(sample.key, sample.members)
    except (KeyError, ValueError, TypeError, AttributeError, StopIteration) as error:
        raise ShardError(
            shard, f"sample {sample.key}", f"is no whole sample ({type(error).__name__}: {error})", _MEND
        ) from error
