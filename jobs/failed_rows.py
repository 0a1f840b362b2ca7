"""The source `failed_rows`: the rows that one step of a finished run rejected for given reasons, as that step got them.

The rows are read again from the run's own input, and brought through the steps before that one by what those committed;
nothing of them is kept in the rejections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from jobs.chain import Stage
from jobs.commits import Commit
from jobs.registry import make_source
from jobs.run_folder import RunFolder
from jobs.run_manifest import RunManifest, finished_run, read_run_manifest
from jobs.work import apply_delta
from pipelines.source import Partition, Source, reject_repeats
from pipelines.step import StepResult
from schemas.atomic import fingerprint
from schemas.config import Config
from schemas.errors import InputError


class FailedRowsConfig(Config):
    """Which run, which step, which reasons."""

    path: Path
    """The run folder."""
    step: str = "fetch"
    """Name of the step that rejected the rows."""
    reasons: tuple[str, ...] = Field(min_length=1)
    """Reasons; `*` stands for any characters, as in `http_5*`."""
    rows_per_partition: int = Field(default=1024, ge=1)
    """Rows of several partitions of the run are put together up to about this many."""


class FailedRows(Source[FailedRowsConfig]):
    """The rows, in the run's order, with the columns that they had before the step."""

    name: ClassVar[str] = "failed_rows"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = FailedRowsConfig

    def __init__(self, config: FailedRowsConfig) -> None:
        super().__init__(config)
        self._places: tuple[Partition, ...] = ()

    def partitions(self) -> Sequence[Partition]:
        """Ranges of those of the run's partitions that hold such rows, named by the content of their outcomes.

        Raises:
            InputError: no finished run, no such step, no such row, or the run's input changed.
        """
        manifest = finished_run(self.config.path)
        stage = find_stage(manifest, self.config.step)[-1]
        known = {place.name: place for place in _source_of(manifest).partitions()}
        places: list[Partition] = []
        counts: list[int] = []
        hashes: list[str] = []
        met: Counter[str] = Counter()
        for entry in manifest.partitions:
            commit = self._commit(stage, entry.name)
            met.update(commit.rejected)
            count = sum(rows for reason, rows in commit.rejected.items() if self._wanted(reason))
            if count and commit.outcomes is not None:
                if entry.name not in known:
                    raise InputError("run folder", entry.path, "is no longer what the run read", "Restore the input.")
                places.append(known[entry.name])
                counts.append(count)
                hashes.append(commit.outcomes.sha256)
        if not places:
            told = ", ".join(f"{reason} {rows:,}" for reason, rows in met.most_common()) or "none"
            raise InputError(
                "reasons",
                list(self.config.reasons),
                f"no row of '{stage.name}' was rejected for them",
                f"Reasons there: {told}.",
            )
        # Kept here, so that a worker need not list the run's whole input again.
        self._places = tuple(places)
        return [
            Partition(f"{number:05d}-{fingerprint(hashes[start:stop])}", str(self.config.path), start, stop)
            for number, (start, stop) in enumerate(_ranges(counts, self.config.rows_per_partition))
        ]

    def read(self, partition: Partition) -> StepResult:
        """The rows of one partition.

        Raises:
            InputError: the input no longer gives the rows it gave when the run was made.
        """
        if not self._places:
            self.partitions()
        manifest = read_run_manifest(self.config.path)
        source, stages = _source_of(manifest), find_stage(manifest, self.config.step)
        tables = [self._rows(source, stages, place) for place in self._places[partition.start : partition.stop]]
        return reject_repeats(self, pa.concat_tables(tables, promote_options="permissive"))

    def identity(self) -> dict[str, Any]:
        """Without the folder: partitions are named by content, so a run that was moved is the same input."""
        decides = self.config.as_json()
        return {
            "source": self.name,
            "version": self.version,
            "step": decides["step"],
            "reasons": sorted(decides["reasons"]),
        }

    def _rows(self, source: Source[Any], stages: Sequence[Stage], place: Partition) -> pa.Table:
        folder = RunFolder(self.config.path)
        table = source.read(place).kept
        for stage in stages[:-1]:
            table = apply_delta(table, folder.read_table(self._commit(stage, place.name).delta), place)
        commit = self._commit(stages[-1], place.name)
        if commit.outcomes is None:
            return table.slice(0, 0)
        outcomes = folder.read_table(commit.outcomes)
        wanted = [self._wanted(reason) for reason in outcomes["reason"].to_pylist()]
        keys = outcomes["key"].filter(pa.array(wanted, pa.bool_())).combine_chunks()
        return table.filter(pc.is_in(table["key"], value_set=keys))

    def _commit(self, stage: Stage, partition: str) -> Commit:
        commit = RunFolder(self.config.path).commit(stage, partition)
        if commit is None:
            raise InputError(
                "run folder",
                str(self.config.path),
                f"the commit of '{stage.name}' for partition {partition} is gone",
                "Run the pipeline again.",
            )
        return commit

    def _wanted(self, reason: str) -> bool:
        return any(fnmatchcase(reason, pattern) for pattern in self.config.reasons)


def find_stage(manifest: RunManifest, step: str) -> list[Stage]:
    """The stages of a run up to the step called `step`, which is the last of them.

    Raises:
        InputError: the run has no such step.
    """
    stages = [
        Stage(position, entry.name, entry.version, entry.fingerprint) for position, entry in enumerate(manifest.stages)
    ]
    positions = [stage.position for stage in stages[1:] if stage.name == step]
    if not positions:
        names = ", ".join(stage.name for stage in stages[1:]) or "none"
        raise InputError("step", step, "is no step of the run", f"Its steps: {names}.")
    return stages[: positions[-1] + 1]


def _source_of(manifest: RunManifest) -> Source[Any]:
    [(name, values)] = manifest.config["source"].items()
    return make_source(name, values, "the run's source")


def _ranges(counts: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Consecutive ranges whose counts add up to at most `most`, or that hold a single larger one."""
    ranges, start, rows = [], 0, 0
    for place, count in enumerate(counts):
        if rows and rows + count > most:
            ranges.append((start, place))
            start, rows = place, 0
        rows += count
    ranges.append((start, len(counts)))
    return ranges
