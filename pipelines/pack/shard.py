"""One shard, written whole: its tar, its Parquet file, and the record in `.work/` that says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.pack.config import Format, PackConfig
from pipelines.pack.plan import ShardPlan, cut
from pipelines.pack.rows import Loader, members_of, row_of, size_of, typed_table
from pipelines.pack.tar import write_end, write_sample
from pipelines.shards.table import shard_schema, to_stored
from schemas.atomic import write_json, write_whole
from schemas.layout import PARQUET_FOLDER, WEBDATASET_FOLDER, aspect_bucket, shard_name
from schemas.manifest import FileEntry

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
    names = {form: _file_name(form, config, job.plan.number) for form in config.formats}
    with ExitStack() as stack:
        streams = {form: _Hashed(stack.enter_context(write_whole(out / name))) for form, name in names.items()}
        rows = _write_samples(job, config, names, streams)
    files = [stream.entry(names[form], form, job.plan.samples) for form, stream in streams.items()]
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


def _write_samples(
    job: ShardJob, config: PackConfig, names: Mapping[Format, str], streams: Mapping[Format, _Hashed]
) -> list[dict[str, Any]]:
    """Write every sample to each stream, loading each partition once; returns the rows of the index."""
    tar = streams.get("webdataset")
    offset = 0
    rows: list[dict[str, Any]] = []
    with _RowGroups(streams.get("parquet"), job, config) as groups:
        for piece, loader in zip(job.plan.pieces, job.loaders, strict=True):
            table = typed_table(loader(), config.record_schema)
            for number in piece.rows:
                row = row_of(table, number)
                values = _index_values(row)
                if tar is None:
                    values.update(shard=names["parquet"], offset=len(rows), size=0)
                else:
                    size = write_sample(tar, row["key"], members_of(row, config))
                    values.update(shard=names["webdataset"], offset=offset, size=size)
                    offset += size
                if "parquet" in streams:
                    values.update(parquet_shard=names["parquet"], parquet_row=len(rows))
                    groups.add(table.slice(number, 1))
                rows.append(values)
    if tar is not None:
        write_end(tar, offset)
    return rows


class _RowGroups:
    """Writes a Parquet shard row group by row group, so that no more than one is in memory."""

    def __init__(self, stream: _Hashed | None, job: ShardJob, config: PackConfig) -> None:
        self._record = config.record_schema
        sizes = [size for piece in job.plan.pieces for size in piece.sizes]
        self._ends = {run.stop for run in cut(sizes, config.row_group_rows, config.row_group_bytes)}
        self._held: list[pa.Table] = []
        self._added = 0
        self._writer: pq.ParquetWriter | None = None
        if stream is not None:
            # The writer's options are spelt out because they decide the bytes.
            self._writer = pq.ParquetWriter(
                stream,
                shard_schema(self._record),
                version="2.6",
                compression="snappy",
                use_dictionary=False,
                write_statistics=True,
            )

    def __enter__(self) -> _RowGroups:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, row: pa.Table) -> None:
        """Add one row of a record's table; a row group is written when it is full."""
        self._held.append(row)
        self._added += 1
        if self._added in self._ends and self._writer is not None:
            group = pa.concat_tables(self._held).combine_chunks()
            self._writer.write_table(to_stored(group, self._record), row_group_size=group.num_rows)
            self._held.clear()


def _file_name(form: Format, config: PackConfig, number: int) -> str:
    if form == "webdataset":
        return f"{WEBDATASET_FOLDER}/{shard_name(config.prefix, number, 'tar')}"
    return f"{PARQUET_FOLDER}/{shard_name(config.prefix, number, 'parquet')}"


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

    def entry(self, name: str, form: Format, samples: int) -> FileEntry:
        """The manifest's entry of the file written."""
        return FileEntry(name=name, format=form, samples=samples, bytes=self._written, sha256=self._digest.hexdigest())
