"""Packing: survey every partition, plan the shards, write each, then the index and the manifest.

The commit protocol. `.work/job.json` says what is being packed, and one record in `.work/` says that a shard is whole;
the manifest comes last, and then `.work/` goes. Whatever moment a packing is killed at, the next one finds either a
manifest with its own fingerprint (finished), or a `job.json` with it (go on with the shards that have no record).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.pack.config import PackConfig
from pipelines.pack.folder import begin, check_output, finish, finished_manifest
from pipelines.pack.plan import plan_shards
from pipelines.pack.rows import Loader
from pipelines.pack.shard import ShardJob, write_shard
from pipelines.pack.survey import VERSION, Survey, first_of_each_key, input_digest, survey
from schemas.atomic import fingerprint, sha256_of, write_whole
from schemas.errors import InputError
from schemas.layout import INDEX, INDEX_NAME
from schemas.manifest import FileEntry, ShardManifest

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total) after each piece of work; stages are "survey" and "write"."""


class RunMap(Protocol):
    """What spreads work: like the builtin `map` of one iterable, results in the items' order."""

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterable[Result]:
        """Call `function` on each item, anywhere and in any order, more than once if need be."""


@dataclass(frozen=True)
class PackResult:
    """What packing came to.

    Args:
        manifest: as written. rows_in = kept + the sum of rejected.
        rejected: one `Outcome` row for each rejected row.
        already_packed: True where the folder held exactly this before, and nothing was done.
    """

    manifest: ShardManifest
    rejected: pa.Table
    already_packed: bool


def pack(
    loaders: Sequence[Loader],
    config: PackConfig,
    out: Path,
    *,
    run_map: RunMap = map,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> PackResult:
    """Pack partitions of samples into the folder `out`.

    The shards hold the samples in input order (see `plan`). A key that stands twice is packed once, the first time;
    the other rows are rejected. The same samples and config give the same bytes, whatever `run_map` does and wherever
    the partitions' borders are. Killed at any moment and called again, it ends with the same bytes.

    Args:
        loaders: one a partition, in input order; each picklable, and giving the same table every time it is called.
        out: made if missing; holds nothing but a packing of the same samples, finished or not.
        run_map: what spreads the work over workers; functions and items are picklable.
        progress: told how far the work is.
        overwrite: replace what was packed in `out` from other samples or with another config.

    Raises:
        InputError: there are no rows; or `out` holds something else.
        SchemaError: a partition is not the record that the config names.
    """
    check_output(out)
    tell = progress or _silent
    surveys = list(_counted(run_map(partial(survey, config=config), list(loaders)), "survey", len(loaders), tell))
    rows_in = sum(one.rows_in for one in surveys)
    if rows_in == 0:
        raise InputError(
            "pack input", f"{len(loaders)} partitions", "has no rows", "See what the steps before rejected."
        )
    surveys, repeated = first_of_each_key(surveys)
    rejected = pa.concat_tables([*(one.rejected for one in surveys), repeated])
    mark = fingerprint(
        {
            "pack": VERSION,
            "record_version": config.record_schema.version,
            "config": config.as_json(),
            "rows_in": rows_in,
            "input": input_digest(surveys, rejected),
        }
    )

    finished = finished_manifest(out, mark)
    if finished is not None:
        return PackResult(finished, rejected, already_packed=True)
    begin(out, mark, config, overwrite)
    files, index = _write_shards(loaders, surveys, config, out, mark, run_map, tell)
    manifest = ShardManifest(
        record="EditSample" if config.record == "edits" else "ImageRecord",
        record_version=config.record_schema.version,
        config=config.as_json(),
        fingerprint=mark,
        rows_in=rows_in,
        kept=sum(len(one.keys) for one in surveys),
        rejected=dict(sorted(Counter(rejected["reason"].to_pylist()).items())),
        shards=files,
        index=_write_index(index, out),
    ).sealed()
    manifest.write(out)
    finish(out)
    return PackResult(manifest, rejected, already_packed=False)


def _write_shards(
    loaders: Sequence[Loader],
    surveys: Sequence[Survey],
    config: PackConfig,
    out: Path,
    mark: str,
    run_map: RunMap,
    tell: Progress,
) -> tuple[list[FileEntry], pa.Table]:
    plans = plan_shards([(one.rows, one.sizes) for one in surveys], config.samples_per_shard, config.bytes_per_shard)
    jobs = [ShardJob(plan, tuple(loaders[piece.partition] for piece in plan.pieces), mark) for plan in plans]
    files: list[FileEntry] = []
    index = [INDEX.arrow.empty_table()]
    for shard in _counted(run_map(partial(write_shard, out=out, config=config), jobs), "write", len(jobs), tell):
        files.extend(shard.files)
        index.append(pa.Table.from_pylist(list(shard.rows), schema=INDEX.arrow))
    return files, pa.concat_tables(index).combine_chunks()


def _write_index(index: pa.Table, out: Path) -> FileEntry:
    with write_whole(out / INDEX_NAME) as stream:
        pq.write_table(index, stream, version="2.6", compression="snappy", use_dictionary=False)
    path = out / INDEX_NAME
    return FileEntry(
        name=INDEX_NAME, format="index", samples=index.num_rows, bytes=path.stat().st_size, sha256=sha256_of(path)
    )


def _counted(results: Iterable[Result], stage: str, total: int, tell: Progress) -> Iterable[Result]:
    tell(stage, 0, total)
    for done, result in enumerate(results, start=1):
        tell(stage, done, total)
        yield result


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
