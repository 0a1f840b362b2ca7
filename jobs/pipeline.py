"""Run a pipeline: check everything, then do what is not done yet, then say what became of every row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from jobs.build import build_chain, resolved
from jobs.chain import Chain, over_partitions
from jobs.commits import CommittedFile
from jobs.config import PipelineConfig
from jobs.event_log import EventLog
from jobs.history import history_of
from jobs.marks_met import MarksMet, marks_met
from jobs.model_costs import ModelCost, model_costs
from jobs.observer import Observer
from jobs.places import check_places
from jobs.planning.forecast_file import Actual, Deviation, deviations
from jobs.planning.room import check_room
from jobs.progress import NoProgress, ProgressView
from jobs.report.counts import StageCounts
from jobs.report.mask_report import MASK_REPORT, has_masks, report_of_run
from jobs.report.run_page import run_page
from jobs.run_folder import RunFolder
from jobs.run_manifest import RunManifest, read_run_manifest
from jobs.runners.config import RunnerConfig
from jobs.runners.run_chain import find_pending, run_chain
from jobs.summary import counts_of, files_of, finished_manifest
from jobs.work import PartitionLoader
from pipelines.pack import PackResult, pack
from pipelines.review.step import Review
from pipelines.source import Partition
from schemas.atomic import fingerprint, write_bytes
from schemas.errors import EditmillError, InputError
from schemas.manifest import read_manifest


@dataclass(frozen=True)
class RunReport:
    """What a run came to.

    Args:
        name: of the pipeline.
        folder: the run folder.
        shards: the folder of the shards, or None where nothing was packed.
        counts: of the source, of each step, and of the pack where there is one.
        did_work: False where an earlier run had done all of it.
        seconds: wall time of this run.
        marks: what the marks of each step `review` came to.
        deviations: how far the plan was off, where there was one and this run did work.
        costs: of each step that asked a model.
    """

    name: str
    folder: Path
    shards: Path | None
    counts: tuple[StageCounts, ...]
    did_work: bool
    seconds: float
    marks: tuple[MarksMet, ...]
    deviations: tuple[Deviation, ...] = ()
    costs: tuple[ModelCost, ...] = ()

    @property
    def kept(self) -> int:
        """Rows at the end."""
        return self.counts[-1].kept


def run_pipeline(
    config: PipelineConfig, progress: ProgressView | None = None, where: str = "pipeline config"
) -> RunReport:
    """Run `config` to its end, or go on where an earlier run of it was ended.

    Args:
        progress: told how far the run is.
        where: what the config came from, for errors.

    Raises:
        EditmillError: before a row is read, for whatever is wrong with config, input, models or the run folder; later
            for input that changes under the run. What was committed stays.
    """
    start = time.monotonic()
    chain = build_chain(config, where)
    check_places(config, chain)
    config = resolved(config, chain)
    partitions = chain.plan.source.partitions()
    if not partitions:
        raise InputError(f"{where}: source", config.source, "has no partitions", "Check the path.")
    chain = over_partitions(chain, partitions)
    folder = RunFolder(config.folder)
    view = progress or NoProgress()
    with_records = config.pack is None
    # Preflight comes before the folder is made, and spares the models of steps that have nothing left to do.
    pending = find_pending(chain, folder, partitions, with_records)
    for position, step in enumerate(chain.steps, start=1):
        if any(done <= position for done in pending.values()):
            step.preflight()
    mark = _fingerprint(config, chain, partitions)
    with folder.locked():
        former = _finished_manifest(folder, mark)
        if former is not None and not pending and _shards_stand(former):
            marks = _marks_met(chain, former, folder)
            if former.config.get("report") != config.report.as_json():
                former = former.model_copy(update={"config": {**former.config, "report": config.report.as_json()}})
                _write_pages(config, chain, former, folder, marks)
                former.write(folder.manifest)
            costs = model_costs(chain)
            told = counts_of(former)
            return RunReport(config.name, folder.path, _shards_of(former), told, False, 0.0, marks, (), costs)

        check_room(config, chain.plan)
        write_bytes(folder.config, yaml.safe_dump(config.as_json(), sort_keys=False, allow_unicode=True).encode())
        RunManifest(status="running", name=config.name, fingerprint=mark, config=config.as_json()).write(
            folder.manifest
        )
        log = EventLog(folder.log)
        log.write("run_begins", name=config.name, fingerprint=mark, partitions=len(partitions), pending=len(pending))
        observer = Observer([stage.name for stage in chain.plan.stages], config, folder, log, view)
        with (
            observer.watching(len(partitions)),
            _mapper(config.runner, bool(pending) or config.pack is not None) as run_map,
        ):
            run_chain(chain, folder, partitions, with_records, config.runner, observer)
            counts = observer.tally.counts()
            packed = None
            if counts[-1].kept:
                packed = _pack(config, chain, folder, partitions, counts, run_map, observer.packing)
        manifest = finished_manifest(
            config, mark, chain, partitions, observer.tally, observer.finishes, counts, packed, folder
        )
        folder.remove_strays({file.name for file in files_of(manifest)})
        seconds = time.monotonic() - start
        costs = model_costs(chain)
        actual = _actual(chain, config, manifest, observer, costs, seconds)
        off = deviations(folder.path, chain.plan.fingerprint, actual)
        for stage, took in zip(chain.plan.stages, observer.tally.seconds, strict=True):
            log.write("stage_took", stage=stage.name, position=stage.position, seconds=round(took, 3))
        for cost in costs:
            log.write("model_asked", **asdict(cost))
        for one in off:
            log.write("plan_was_off", quantity=one.name, planned=one.planned, actual=one.actual)
        marks = _marks_met(chain, manifest, folder)
        _write_pages(config, chain, manifest, folder, marks)
        manifest.write(folder.manifest)
        shown = counts_of(manifest)
        report = RunReport(config.name, folder.path, _shards_of(manifest), shown, True, seconds, marks, off, costs)
        for met in marks:
            log.write("marks_met", marks=str(met.path), without_row=list(met.without_row), said=met.sentence())
        log.write("run_ends", kept=report.kept, seconds=round(report.seconds, 3))
        return report


RunMap = Callable[..., Any]


@contextmanager
def _mapper(runner: RunnerConfig, needed: bool) -> Iterator[RunMap]:
    """What spreads the pack, with one Ray session around chain and pack where the runner is Ray."""
    if runner.kind == "in_process" or not needed:
        yield map
        return
    from jobs.runners.ray_session import ray_map, ray_session

    with ray_session(runner):
        yield ray_map


def _pack(
    config: PipelineConfig,
    chain: Chain,
    folder: RunFolder,
    partitions: Sequence[Partition],
    counts: Sequence[StageCounts],
    run_map: RunMap,
    progress: Callable[[str, int, int], None],
) -> tuple[PackResult, CommittedFile | None] | None:
    if config.pack is None or config.shards is None:
        return None
    loaders = [PartitionLoader(chain.plan, folder, partition) for partition in partitions]
    overwrite = config.pack.overwrite or config.pack.output is None
    result = pack(
        loaders,
        config.pack.pack_config(),
        config.shards,
        run_map=run_map,
        progress=progress,
        overwrite=overwrite,
        history=history_of(config.as_json(), chain.plan.stages, counts),
    )
    return result, folder.write_outcomes("pack", result.rejected)


def _fingerprint(config: PipelineConfig, chain: Chain, partitions: Sequence[Partition]) -> str:
    pack_values: Mapping[str, Any] | None = None if config.pack is None else config.pack.pack_config().as_json()
    names = [partition.name for partition in partitions]
    return fingerprint([chain.plan.fingerprint, names, pack_values, config.shards and str(config.shards)])


def _finished_manifest(folder: RunFolder, mark: str) -> RunManifest | None:
    if not folder.manifest.exists():
        return None
    try:
        manifest = read_run_manifest(folder.path)
    except InputError as error:
        mend = "Choose another folder; or delete that file, if the folder is of a run: what was committed is used."
        raise InputError("output", str(folder.path), "holds a manifest.json that is of no run", mend) from error
    return manifest if manifest.status == "finished" and manifest.fingerprint == mark else None


def _write_pages(
    config: PipelineConfig, chain: Chain, manifest: RunManifest, folder: RunFolder, marks: Sequence[MarksMet]
) -> None:
    write_bytes(folder.report, run_page(manifest, folder, marks, model_costs(chain)).encode())
    if has_masks(manifest):
        page = report_of_run(manifest, folder, chain, config.report.weighting, config.report.max_weight)
        write_bytes(folder.path / MASK_REPORT, page.encode())


def _actual(
    chain: Chain,
    config: PipelineConfig,
    manifest: RunManifest,
    observer: Observer,
    costs: Sequence[ModelCost],
    seconds: float,
) -> Actual:
    """What the run came to, as a plan foretells it."""
    counts, tally = counts_of(manifest), observer.tally
    of_models = sum(tally.seconds[place] for place, step in enumerate(chain.steps, start=1) if step.computes_model)
    spent = [cost.spent for cost in costs if cost.spent is not None]
    packed = None if manifest.shards is None else read_manifest(Path(manifest.shards))
    return Actual(
        rows=counts[0].rows_in,
        kept=counts[-1].kept,
        seconds=None if observer.found_any else seconds,
        core_hours=sum(tally.seconds) / 3600,
        gpu_hours=(config.runner.gpus_per_model or 0.0) * of_models / 3600,
        run_bytes=tally.bytes + sum(entry.records.bytes for entry in manifest.partitions if entry.records is not None),
        shard_bytes=0 if packed is None else sum(file.bytes for file in (*packed.shards, packed.index)),
        model_money=sum(spent) if spent else None,
    )


def _marks_met(chain: Chain, manifest: RunManifest, folder: RunFolder) -> tuple[MarksMet, ...]:
    return tuple(marks_met(step, manifest, folder) for step in chain.steps if isinstance(step, Review))


def _shards_of(manifest: RunManifest) -> Path | None:
    return None if manifest.shards is None else Path(manifest.shards)


def _shards_stand(manifest: RunManifest) -> bool:
    if manifest.shards is None or manifest.pack is None:
        return True
    try:
        return read_manifest(Path(manifest.shards)).fingerprint == manifest.pack.fingerprint
    except EditmillError:
        return False
