"""Packing: survey every partition, plan the shards, write each, then the index and the manifest.

The commit protocol. `.work/job.json` says what is being packed, and one record in `.work/` says that a shard is whole;
the manifest comes last, and then `.work/` goes. Whatever moment a packing is killed at, the next one finds either a
manifest with its own fingerprint (finished), or a `job.json` with it (go on with the shards that have no record).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from pipelines.pack.config import PackConfig
from pipelines.pack.contents import Contents, listed
from pipelines.pack.folder import (
    LOCK,
    begin,
    check_is_ours,
    check_output,
    check_room,
    finish,
    finished_manifest,
    write_card,
)
from pipelines.pack.index import write_index
from pipelines.pack.plan import ShardPlan, plan_shards
from pipelines.pack.rows import Loader
from pipelines.pack.shard import ShardJob, read_commit, write_shard
from pipelines.pack.subsets import drawn
from pipelines.pack.survey import VERSION, Samples, gather, survey
from schemas.atomic import fingerprint
from schemas.errors import InputError, OutputError
from schemas.folders import locked
from schemas.manifest import ShardManifest, StepHistory

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
    history: Sequence[StepHistory] | None = None,
) -> PackResult:
    """Pack partitions of samples into the folder `out`.

    The shards hold the samples in input order (see `plan`), subset by subset. A key that stands twice is packed once,
    the first time; the other rows are rejected. The same samples, config and history give the same bytes, whatever
    `run_map` does and wherever the partitions' borders are. Killed at any moment and called again, it ends with the
    same bytes. Every partition is read once to look at it, and once more for each subset.

    Args:
        loaders: one a partition, in input order; each picklable, and giving the same table every time it is called.
        out: made if missing; holds nothing but a packing of the same samples, finished or not.
        run_map: what spreads the work over workers; functions and items are picklable.
        progress: told how far the work is.
        overwrite: replace what was packed in `out` from other samples or with another config.
        history: what became of the rows before, for the dataset card.

    Raises:
        InputError: there are no rows; or `out` holds something else.
        SchemaError: a partition is not the record that the config names.
        OutputError: `out` cannot be written.
    """
    check_output(out)
    tell = progress or _silent
    surveys = _counted(run_map(partial(survey, config=config), list(loaders)), "survey", len(loaders), tell)
    samples = gather(surveys, config)
    if samples.rows_in == 0:
        raise InputError(
            "pack input", f"{len(loaders)} partitions", "has no rows", "See what the steps before rejected."
        )
    mark = fingerprint(
        {
            "pack": VERSION,
            "record_version": config.record_schema.version,
            "config": config.as_json(),
            "rows_in": samples.rows_in,
            "input": samples.input_digest(),
            "history": None if history is None else [step.as_json() for step in history],
        }
    )

    finished = finished_manifest(out, mark)
    if finished is not None:
        return PackResult(finished, samples.rejected, already_packed=True)
    check_is_ours(out, mark, overwrite)
    with locked(out, LOCK, "packed folder", "another packing"):
        check_is_ours(out, mark, overwrite)
        begin(out, mark, config)
        check_room(out, len(config.formats) * int(samples.samples["size"].sum()))
        plans = _plans(samples, config)
        jobs = [ShardJob(plan, tuple(loaders[piece.partition] for piece in plan.pieces), mark) for plan in plans]
        written = _counted(run_map(partial(write_shard, out=out, config=config), jobs), "write", len(jobs), tell)
        shards = [entry for files in written for entry in files]
        contents = Contents()
        index = write_index(out, _index_rows(out, config, mark, plans, contents))
        manifest = ShardManifest(
            record="EditSample" if config.record == "edits" else "ImageRecord",
            record_version=config.record_schema.version,
            config=config.as_json(),
            fingerprint=mark,
            rows_in=samples.rows_in,
            kept=len(samples),
            rejected=dict(sorted(Counter(samples.rejected["reason"].to_pylist()).items())),
            history=None if history is None else tuple(history),
            contents=listed(contents),
            subsets=_subset_sizes(plans, config),
            shards=shards,
            index=index,
        ).sealed()
        write_card(out, manifest)
        manifest.write(out)
    finish(out)
    return PackResult(manifest, samples.rejected, already_packed=False)


def _plans(samples: Samples, config: PackConfig) -> list[ShardPlan]:
    """The shards of each subset, in the order of the subsets' names."""
    chosen = np.zeros(len(samples), np.int16)
    if config.subsets:
        rules = samples.samples["rule"]
        chosen = np.where(rules >= 0, rules, drawn(samples.groups, config))
    plans: list[ShardPlan] = []
    for position, subset in enumerate(config.subset_names):
        inside = chosen == position
        plans += plan_shards(
            samples.partitions[inside],
            samples.samples["row"][inside],
            samples.samples["size"][inside],
            config.samples_per_shard,
            config.bytes_per_shard,
            subset,
        )
    return plans


def _index_rows(
    out: Path, config: PackConfig, mark: str, plans: Sequence[ShardPlan], contents: Contents
) -> Iterator[tuple[Any, ...]]:
    """The rows of the index, shard by shard, from the commit records; what the shards hold is added to `contents`."""
    for plan in plans:
        committed = read_commit(out, config, plan.subset, plan.number, mark)
        if committed is None:
            what = "lost a shard while it was packed"
            raise OutputError("packed folder", str(out), what, "See that nothing else writes there, and pack again.")
        contents.update(committed.contents)
        yield committed.rows


def _subset_sizes(plans: Sequence[ShardPlan], config: PackConfig) -> dict[str, int] | None:
    if not config.subsets:
        return None
    sizes = dict.fromkeys(config.subsets, 0)
    for plan in plans:
        sizes[str(plan.subset)] += plan.samples
    return sizes


def _counted(results: Iterable[Result], stage: str, total: int, tell: Progress) -> Iterable[Result]:
    tell(stage, 0, total)
    for done, result in enumerate(results, start=1):
        tell(stage, done, total)
        yield result


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
