"""One shard, written whole: its tar, its Parquet file, and the record in `.work/` that says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.pack.config import PackConfig
from pipelines.pack.plan import ShardPlan, cut
from pipelines.pack.rows import Loader, members_of, row_of, size_of, typed_table
from pipelines.pack.tar import write_end, write_sample
from pipelines.shards.table import shard_schema, to_stored
from schemas.atomic import write_json, write_whole
from schemas.layout import PARQUET_FOLDER, WEBDATASET_FOLDER, aspect_bucket, shard_name
from schemas.manifest import FileEntry
from schemas.record import RecordSchema

WORK_FOLDER = ".work"
"""Folder in a packed folder that holds the commit records until packing is finished."""


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to write one shard.

    Args:
        plan: which rows.
        loaders: the loader of each piece of the plan, in the same order.
        fingerprint: of the whole packed folder.
    """

    plan: ShardPlan
    loaders: tuple[Loader, ...]
    fingerprint: str


@dataclass(frozen=True)
class Committed:
    """A shard that is whole: its files, and its rows of the index."""

    files: tuple[FileEntry, ...]
    rows: tuple[Mapping[str, Any], ...]


def write_shard(job: ShardJob, out: Path, config: PackConfig) -> Committed:
    """Write one shard into the packed folder `out`, or find that it is there already.

    Safe to run again, and at the same time as other shards: each file appears under its name when it is whole, and the
    commit record last.
    """
    record = out / WORK_FOLDER / f"{config.prefix}-{job.plan.number:06d}.json"
    committed = _read_record(record, job.fingerprint, out)
    if committed is not None:
        return committed
    files: list[FileEntry] = []
    rows: list[dict[str, Any]] = [{} for _ in range(job.plan.samples)]
    if "webdataset" in config.formats:
        name = f"{WEBDATASET_FOLDER}/{shard_name(config.prefix, job.plan.number, 'tar')}"
        with write_whole(out / name) as stream:
            hashed = _Hashed(stream)
            _write_tar(hashed, job, config, name, rows)
        files.append(hashed.entry(name, "webdataset", job.plan.samples))
    if "parquet" in config.formats:
        name = f"{PARQUET_FOLDER}/{shard_name(config.prefix, job.plan.number, 'parquet')}"
        with write_whole(out / name) as stream:
            hashed = _Hashed(stream)
            _write_parquet(hashed, job, config, name, rows)
        files.append(hashed.entry(name, "parquet", job.plan.samples))
    committed = Committed(tuple(files), tuple(rows))
    write_json(
        record,
        {
            "fingerprint": job.fingerprint,
            "files": [entry.as_json() for entry in committed.files],
            "rows": list(committed.rows),
        },
    )
    return committed


def _write_tar(stream: _Hashed, job: ShardJob, config: PackConfig, name: str, rows: list[dict[str, Any]]) -> None:
    position = offset = 0
    for table, piece_rows in _pieces(job, config.record_schema):
        for number in piece_rows:
            row = row_of(table, number)
            size = write_sample(cast(BinaryIO, stream), row["key"], members_of(row, config))
            rows[position].update(_index_values(row), shard=name, offset=offset, size=size)
            offset += size
            position += 1
    write_end(cast(BinaryIO, stream), offset)


def _write_parquet(stream: _Hashed, job: ShardJob, config: PackConfig, name: str, rows: list[dict[str, Any]]) -> None:
    record = config.record_schema
    sizes = [size for piece in job.plan.pieces for size in piece.sizes]
    group_ends = [run.stop for run in cut(sizes, config.row_group_rows, config.row_group_bytes)]
    # Images are compressed already; the writer's options are spelt out because they decide the bytes.
    writer = pq.ParquetWriter(
        stream, shard_schema(record), version="2.6", compression="snappy", use_dictionary=False, write_statistics=True
    )
    with writer:
        held: list[pa.Table] = []
        position = 0
        for table, piece_rows in _pieces(job, record):
            for number in piece_rows:
                values = rows[position]
                if not values:
                    values.update(_index_values(row_of(table, number)), shard=name, offset=position, size=0)
                values.update(parquet_shard=name, parquet_row=position)
                held.append(table.slice(number, 1))
                position += 1
                if position == group_ends[0]:
                    group = pa.concat_tables(held).combine_chunks()
                    writer.write_table(to_stored(group, record), row_group_size=group.num_rows)
                    held.clear()
                    group_ends.pop(0)


def _pieces(job: ShardJob, record: RecordSchema) -> Iterator[tuple[pa.Table, Sequence[int]]]:
    for piece, loader in zip(job.plan.pieces, job.loaders, strict=True):
        yield typed_table(loader(), record), piece.rows


def _index_values(row: Mapping[str, Any]) -> dict[str, Any]:
    width, height = size_of(row)
    return {
        "key": row["key"],
        "parquet_shard": None,
        "parquet_row": None,
        "width": width,
        "height": height,
        "bucket": aspect_bucket(width, height),
        "edited_fraction": row.get("edited_fraction"),
        "mask_status": row.get("mask_status"),
        "edit_type": row.get("edit_type"),
        "source": row.get("source"),
    }


def _read_record(path: Path, fingerprint: str, out: Path) -> Committed | None:
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    files = tuple(FileEntry.model_validate(entry) for entry in values["files"])
    whole = values["fingerprint"] == fingerprint and all(is_in_place(out, entry) for entry in files)
    return Committed(files, tuple(values["rows"])) if whole else None


def is_in_place(out: Path, entry: FileEntry) -> bool:
    """Whether the file stands in `out` with its size; the cheap half of validation."""
    path = out / entry.name
    return path.is_file() and path.stat().st_size == entry.bytes


class _Hashed:
    """A write-only stream that hashes and counts what goes through it."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._written = 0

    def write(self, data: Any) -> int:
        """Pass the bytes on; returns how many."""
        view = memoryview(data)
        self._stream.write(view)
        self._digest.update(view)
        self._written += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Pass on the wish; `write_whole` does the syncing."""
        self._stream.flush()

    def close(self) -> None:
        """Nothing: `write_whole` closes the stream."""

    def writable(self) -> bool:
        """A Parquet writer asks."""
        return True

    def tell(self) -> int:
        """Bytes written."""
        return self._written

    def entry(self, name: str, form: Any, samples: int) -> FileEntry:
        """The manifest's entry of the file written."""
        return FileEntry(name=name, format=form, samples=samples, bytes=self._written, sha256=self._digest.hexdigest())
