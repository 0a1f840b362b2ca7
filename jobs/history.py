"""What became of rows before they are packed, over all runs that led there: what the dataset card tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from jobs.chain import Stage
from jobs.report.counts import StageCounts
from jobs.run_manifest import RunManifest, finished_run
from jobs.run_records import RunRecords
from pipelines.sources.packed_shards import PackedShards
from schemas.errors import EditmillError
from schemas.manifest import StepHistory, read_manifest

_NAMES = (
    "path paths also root image_root index_folder folder cache_folder marks url api_key_env device "
    "rows_per_partition bytes_per_partition batch_size concurrency requests_per_minute tokens_per_minute timeout_s "
    "max_attempts backoff_s deadline_s check_model price cache contact account accelerator"
)
_PLACES = frozenset(_NAMES.split())
"""Keys of configs that say where things lie, whose they are, in which pieces or how fast; they decide no sample, and
are nobody's business but their owner's."""


def history_of(
    config: Mapping[str, Any], stages: Sequence[Stage], counts: Sequence[StageCounts]
) -> tuple[StepHistory, ...]:
    """The source and the steps of this pipeline, and of the runs or the packed shards that it reads.

    Args:
        config: the resolved pipeline config, as JSON has it.
        stages, counts: of the source and of each step.
    """
    return _joined(
        config,
        [
            (stage.name, stage.version, count.rows_in, count.kept, count.rejected)
            for stage, count in zip(stages, counts, strict=True)
        ],
    )


_Told = tuple[str, int, int, int, dict[str, int]]


def _joined(config: Mapping[str, Any], told: Sequence[_Told]) -> tuple[StepHistory, ...]:
    [(source, values)] = config["source"].items()
    configs = [values, *(next(iter(step.values())) for step in config["steps"])]
    steps = [
        StepHistory(name=name, version=version, rows_in=rows_in, kept=kept, rejected=rejected, config=_decisive(one))
        for (name, version, rows_in, kept, rejected), one in zip(told, configs, strict=True)
    ]
    if source == PackedShards.name:
        return (*_of_shards(Path(values["path"])), *steps)
    if source != RunRecords.name:
        return tuple(steps)
    earlier = [_of_run(Path(run)) for run in (values["path"], *values["also"])]
    if None in earlier:
        return tuple(steps)
    # Reading a run's records passes every row on: its own steps tell more.
    return (*(step for run in earlier for step in run or ()), *steps[1:])


def _of_run(folder: Path) -> tuple[StepHistory, ...] | None:
    """The history of a run that stands in `folder`; None where it does not any more."""
    try:
        manifest: RunManifest = finished_run(folder)
    except EditmillError:
        return None
    told = [(stage.name, stage.version, stage.rows_in, stage.kept, stage.rejected) for stage in manifest.stages]
    return _joined(manifest.config, told)


def _of_shards(folder: Path) -> tuple[StepHistory, ...]:
    """The history of the samples in a packed folder, its packing included; nothing where it does not stand any more."""
    try:
        manifest = read_manifest(folder)
    except EditmillError:
        return ()
    packing = StepHistory(
        name="pack",
        version=manifest.manifest_version,
        rows_in=manifest.rows_in,
        kept=manifest.kept,
        rejected=manifest.rejected,
        config=manifest.config,
    )
    return (*(manifest.history or ()), packing)


def _decisive(value: Any) -> Any:
    """`value` without `_PLACES` at every depth; of absolute paths no more than the last part."""
    if isinstance(value, Mapping):
        return {name: _decisive(inner) for name, inner in value.items() if name not in _PLACES}
    if isinstance(value, list | tuple):
        return [_decisive(inner) for inner in value]
    if isinstance(value, str) and PurePath(value).is_absolute():
        return PurePath(value).name
    return value
