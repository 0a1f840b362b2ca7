"""One shard, written whole: its tar, its Parquet file, and the record in `.work/` that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.pack.config import Format, PackConfig
from pipelines.pack.contents import Contents, count_row
from pipelines.pack.hashed import Hashed
from pipelines.pack.index import index_values
from pipelines.pack.plan import ShardPlan, cut
from pipelines.pack.rows import Loader, members_of, row_of, size_of, typed_table
from pipelines.pack.tar import write_end, write_sample
from pipelines.shards.table import shard_schema, to_stored
from schemas.atomic import write_json, write_whole
from schemas.layout import PARQUET_FOLDER, WEBDATASET_FOLDER, shard_name
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
    """A shard that is whole: its files, its rows of the index, and what it holds."""

    files: tuple[FileEntry, ...]
    rows: tuple[Mapping[str, Any], ...]
    contents: Contents


def write_shard(job: ShardJob, out: Path, config: PackConfig) -> tuple[FileEntry, ...]:
    """Write one shard into the packed folder `out`, or find that it is there already; returns its files.

    Safe to run again, and at the same time as other shards: each file appears under its name when it is whole, and the
    commit record last.
    """
    committed = read_commit(out, config, job.plan.subset, job.plan.number, job.fingerprint)
    if committed is not None:
        return committed.files
    names = {form: _file_name(form, config, job.plan) for form in config.formats}
    with ExitStack() as stack:
        streams = {form: Hashed(stack.enter_context(write_whole(out / name))) for form, name in names.items()}
        rows, contents = _write_samples(job, config, names, streams)
    files = tuple(stream.entry(names[form], form, job.plan.samples) for form, stream in streams.items())
    write_json(
        _record_path(out, config, job.plan.subset, job.plan.number),
        {
            "fingerprint": job.fingerprint,
            "files": [entry.as_json() for entry in files],
            "rows": rows,
            "contents": [[*key, samples] for key, samples in sorted(contents.items())],
        },
    )
    return files


def _write_samples(
    job: ShardJob, config: PackConfig, names: Mapping[Format, str], streams: Mapping[Format, Hashed]
) -> tuple[list[dict[str, Any]], Contents]:
    """Write every sample to each stream, loading each partition once; returns the rows of the index, and counts."""
    tar = streams.get("webdataset")
    offset = 0
    rows: list[dict[str, Any]] = []
    contents: Contents = Contents()
    with _RowGroups(streams.get("parquet"), job, config) as groups:
        for piece, loader in zip(job.plan.pieces, job.loaders, strict=True):
            table = typed_table(loader(), config.record_schema)
            for number in piece.rows.tolist():
                row = row_of(table, number)
                width, height = size_of(row)
                count_row(contents, row, width, height)
                values = index_values(row, width, height, job.plan.subset)
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
    return rows, contents


class _RowGroups:
    """Writes a Parquet shard row group by row group, so that no more than one is in memory."""

    def __init__(self, stream: Hashed | None, job: ShardJob, config: PackConfig) -> None:
        self._record = config.record_schema
        sizes = np.concatenate([piece.sizes for piece in job.plan.pieces])
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


def _file_name(form: Format, config: PackConfig, plan: ShardPlan) -> str:
    if form == "webdataset":
        return f"{WEBDATASET_FOLDER}/{shard_name(config.prefix, plan.number, 'tar', plan.subset)}"
    return f"{PARQUET_FOLDER}/{shard_name(config.prefix, plan.number, 'parquet', plan.subset)}"


def _record_path(out: Path, config: PackConfig, subset: str | None, number: int) -> Path:
    return out / WORK_FOLDER / shard_name(config.prefix, number, "json", subset)


def read_commit(out: Path, config: PackConfig, subset: str | None, number: int, fingerprint: str) -> Committed | None:
    """What is committed of a shard by the packing with this fingerprint; None where that is nothing, or where its files
    are not there any more."""
    path = _record_path(out, config, subset, number)
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    files = tuple(FileEntry.model_validate(entry) for entry in values["files"])
    if values["fingerprint"] != fingerprint or not all(is_in_place(out, entry) for entry in files):
        return None
    contents = Contents({(topic, text): samples for topic, text, samples in values["contents"]})
    return Committed(files, tuple(values["rows"]), contents)


def is_in_place(out: Path, entry: FileEntry) -> bool:
    """Whether the file stands in `out` with its size; the cheap half of validation."""
    path = out / entry.name
    return path.is_file() and path.stat().st_size == entry.bytes
