"""The `packed_shards` source: samples that editmill packed, with the masks, captions, scores and provenance they have.

They go straight on to judging, deduplication or packing, or get other masks from the step `masks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from pipelines.shards.read import PackedFolder, Row, open_packed, read_index
from pipelines.source import Partition, Source
from pipelines.sources.pair_rows import PairRows
from pipelines.sources.parquet_rows import read_rows
from pipelines.step import StepResult
from schemas.atomic import fingerprint
from schemas.config import Config
from schemas.errors import InputError, RowRejected, SchemaVersionError, ShardError
from schemas.keys import pair_key
from schemas.manifest import FileEntry
from schemas.record import RecordSchema
from schemas.records import EDIT_SAMPLE


class PackedShardsConfig(Config):
    """Which shards, and which of their samples."""

    path: str
    """A folder that `editmill pack` finished, with manifest.json."""

    sources: tuple[str, ...] = ()
    """Take only samples from these data sets, by their column `source`; by default all."""

    edit_types: tuple[str, ...] = ()
    """Take only samples of these kinds, by their column `edit_type`; by default all."""

    subsets: tuple[str, ...] = ()
    """Take only these subsets of a folder that was packed in subsets; by default all. The others are not read."""

    rows_per_partition: int = Field(default=64, ge=1)
    """Samples of a partition. All their images are in memory together."""


class PackedShards(Source[PackedShardsConfig]):
    """Samples as the record that was packed, under the keys they have; found through manifest and index.

    A sample of edits is held against its key, which its content gives: where they differ, it was altered
    (`key_mismatch`). One that cannot be read is `sample_damaged`. To look at every byte there is `editmill validate`.
    """

    name: ClassVar[str] = "packed_shards"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = PackedShardsConfig

    def columns(self) -> tuple[str, ...]:
        """The columns of the record that was packed."""
        return tuple(self._opened().record.fields.names)

    def identity(self) -> dict[str, Any]:
        """As the base has it, without where the shards lie: partitions are named by content."""
        config = self.config.as_json()
        return {"source": self.name, "version": self.version, "config": {**config, "path": None}}

    def partitions(self) -> Sequence[Partition]:
        """Ranges of samples in index order, each in one shard, named by the shard's SHA-256.

        Raises:
            InputError: no packed folder, or it has no samples, or not one of the subsets.
            SchemaVersionError: written by a newer editmill.
            ShardError: manifest or index is damaged, or a shard is missing or has another size than listed.
        """
        packed = self._opened()
        hashes: dict[str, str] = {}
        for entry in packed.manifest.shards:
            path = packed.folder / entry.name
            size = path.stat().st_size if path.is_file() else None
            if size != entry.bytes:
                found = "is missing" if size is None else f"has {size} bytes, the manifest says {entry.bytes}"
                raise ShardError(entry.name, str(path), found, "Fetch the file again; see editmill validate.")
            hashes[entry.name] = entry.sha256
        there = packed.manifest.subsets or {}
        for name in self.config.subsets:
            if name not in there:
                mend = f"It has {', '.join(there) or 'no subsets'}."
                raise InputError("packed_shards.subsets", name, f"is no subset of {self.config.path}", mend)
        partitions: list[Partition] = []
        index = _index(packed.folder, packed.manifest.index)
        for shard, start, stop in _runs(index["shard"].to_pylist(), self.config.rows_per_partition):
            # A shard holds samples of one subset.
            if self.config.subsets and index["subset"][start].as_py() not in self.config.subsets:
                continue
            if shard not in hashes:
                raise ShardError("index", shard, "is not in the manifest", "Fetch the folder again.")
            name = f"{len(partitions):05d}-{fingerprint([shard, hashes[shard], start, stop])}"
            partitions.append(Partition(name, str(packed.folder / shard), start, stop))
        if not partitions:
            raise InputError("path", self.config.path, "has no samples", "Pack some.")
        return partitions

    def read(self, partition: Partition) -> StepResult:
        """The samples of one partition.

        Raises:
            InputError, ShardError: the folder is not what it was.
        """
        packed = self._opened()
        record = packed.record
        rows = PairRows(self, partition.path, None, (), record)
        count = partition.stop - partition.start
        index = _index(packed.folder, packed.manifest.index).slice(partition.start, count).to_pylist()
        for position, entry, read in zip(range(count), index, _readers(packed, index), strict=True):
            try:
                rows.keep(self._sample(record, read, entry["key"]))
            except RowRejected as rejection:
                rows.reject(f"sample {partition.start + position}", rejection, entry["key"])
        return rows.result()

    def _sample(self, record: RecordSchema, read: Callable[[], Row], key: str) -> Row:
        try:
            row = read()
            pa.Table.from_pylist([row], schema=record.arrow)
        except SchemaVersionError:
            raise
        except (ShardError, pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError, ValueError) as error:
            raise RowRejected("sample_damaged", f"the sample cannot be read ({error})") from error
        missing = [name for name in record.required if row.get(name) is None]
        if missing:
            raise RowRejected("sample_damaged", f"the sample has no {', '.join(missing)}")
        if record is EDIT_SAMPLE:
            references = [image["bytes"] for image in row["references"]]
            if row["key"] != key or key != pair_key(references, row["target"]["bytes"], row["instruction"]):
                raise RowRejected("key_mismatch", "images and instruction are not those that the key was made of")
        for column, wanted in (("source", self.config.sources), ("edit_type", self.config.edit_types)):
            if wanted and row.get(column) not in wanted:
                raise RowRejected(
                    f"{column}_unwanted", f"the {column} is {row.get(column)!r}; wanted: {', '.join(wanted)}"
                )
        return row

    def _opened(self) -> PackedFolder:
        return open_packed(Path(self.config.path))


_PLACE = ("key", "shard", "offset", "size", "subset")


@lru_cache(maxsize=1)
def _index(folder: Path, entry: FileEntry) -> pa.Table:
    """Where each sample lies; kept, because every partition of a process asks for it."""
    table = read_index(folder, entry)
    return table.select([name for name in _PLACE if name in table.column_names])


def _readers(packed: PackedFolder, index: Sequence[Mapping[str, Any]]) -> Iterator[Callable[[], Row]]:
    """For each entry of the index, neighbours in one shard, what reads its sample."""
    if index and index[0]["size"] == 0:
        first, path = index[0]["offset"], str(packed.folder / index[0]["shard"])
        rows = Partition("", path, first, first + len(index))
        for _, row in read_rows(rows, packed.record.fields.names):
            yield partial(_from_stored, row)
    else:
        for entry in index:
            yield partial(packed.sample_of, entry)


def _from_stored(row: Row) -> Row:
    """A row of a Parquet shard, where a map is a list of key/value structs, as a row of the record."""
    scores = row.get("judge_scores")
    return row if scores is None else {**row, "judge_scores": [(pair["key"], pair["value"]) for pair in scores]}


def _runs(shards: Sequence[str], most: int) -> Iterator[tuple[str, int, int]]:
    """(shard, start, stop) of ranges of at most `most` neighbours in one shard."""
    start = 0
    for position in range(1, len(shards) + 1):
        if position == len(shards) or shards[position] != shards[start] or position - start == most:
            yield shards[start], start, position
            start = position
