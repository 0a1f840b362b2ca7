"""Where a run may write, checked before a row is read: a run must destroy neither its input nor somebody's files."""

from __future__ import annotations

from pathlib import Path

from jobs.build import resolved
from jobs.chain import Chain
from jobs.config import PipelineConfig
from jobs.failed_rows import FailedRows
from jobs.history import history_of
from jobs.report.counts import StageCounts
from jobs.run_folder import RunFolder
from jobs.run_records import RunRecords
from pipelines.pack import check_could_be_ours, check_output
from schemas.errors import InputError


def check_places(config: PipelineConfig, chain: Chain) -> None:
    """Check the run folder and the folder of the shards; changes nothing.

    Args:
        config: of the chain.

    Raises:
        InputError: one of them cannot be a folder or holds something else; the run folder is the run that is read, or
            lies in the folder of the shards; shards of other steps may not be overwritten.
    """
    source = chain.plan.source
    RunFolder(config.folder).check_is_free_or_ours()
    place = config.folder.resolve()
    read: tuple[Path, ...] = ()
    if isinstance(source, RunRecords):
        read = (source.config.path, *source.config.also)
    elif isinstance(source, FailedRows):
        read = (source.config.path,)
    if place in (path.resolve() for path in read):
        raise InputError("output", str(config.folder), "is the run that is read", "Name another folder.")
    if config.shards is None:
        return
    check_output(config.shards)
    if place.is_relative_to(config.shards.resolve()):
        raise InputError(
            "pack.output", str(config.shards), "must not hold the run folder", "Name another folder for the shards."
        )
    if config.pack is not None and config.pack.output is not None and not config.pack.overwrite:
        stages = chain.plan.stages
        none = [StageCounts(stage.name, 0, 0, {}) for stage in stages]
        history = history_of(resolved(config, chain).as_json(), stages, none)
        check_could_be_ours(config.shards, config.pack.pack_config(), history)
