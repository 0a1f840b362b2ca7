"""The source `run_records`: the rows of a finished run, read through its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from jobs.commits import CommittedFile
from jobs.run_folder import read_committed
from jobs.run_manifest import RunManifest, finished_run
from jobs.table_bytes import ROW_GROUP
from pipelines.source import Partition, Source
from pipelines.step import StepResult
from schemas.config import Config
from schemas.errors import InputError
from schemas.outcomes import no_rejections


class RunRecordsConfig(Config):
    """Which run."""

    path: Path
    """The run folder."""
    also: tuple[Path, ...] = ()
    """Further runs, whose rows follow: those of a retry, say."""
    rows_per_partition: int = Field(default=ROW_GROUP, ge=1)
    """A file of more rows is cut into pieces of at most this many, rounded up to whole row groups; later steps, which
    may add images, then hold and commit less at a time."""


class RunRecords(Source[RunRecordsConfig]):
    """Partitions of the run that kept rows, cut smaller where they are large."""

    name: ClassVar[str] = "run_records"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = RunRecordsConfig

    def partitions(self) -> Sequence[Partition]:
        """Named by the content of their files.

        Raises:
            InputError: no run, not finished, packed instead of kept as records, or without a row.
        """
        found: list[tuple[str, CommittedFile]] = []
        for run in (self.config.path, *self.config.also):
            # Names in the first run are relative to it, so that a run that was moved is read there.
            below = "" if run == self.config.path else f"{run.absolute()}/"
            files = [entry.records for entry in _manifest(run).partitions if entry.records and entry.records.rows]
            if not files:
                raise InputError("run folder", str(run), "kept no rows", "See its outcomes/ for the reasons.")
            found += [(below + file.name, file) for file in files]
        step = -(-self.config.rows_per_partition // ROW_GROUP) * ROW_GROUP
        pieces = [(path, file, start) for path, file in found for start in range(0, file.rows, step)]
        return [
            Partition(f"{number:05d}-{file.sha256[:16]}-{start}", path, start, min(start + step, file.rows))
            for number, (path, file, start) in enumerate(pieces)
        ]

    def read(self, partition: Partition) -> StepResult:
        """The rows of one partition; its file must still be the one that the manifest names."""
        _, digest, _ = partition.name.split("-")
        rows = (partition.start, partition.stop)
        return StepResult(read_committed(self.config.path, partition.path, digest, rows), no_rejections())

    def identity(self) -> dict[str, Any]:
        """Without the folder: partitions are named by content, so a run that was moved is the same input."""
        return {"source": self.name, "version": self.version}

    def columns(self) -> tuple[str, ...]:
        """The columns that the records of every run have."""
        first, *others = [_manifest(run).columns for run in (self.config.path, *self.config.also)]
        return tuple(column for column in first if all(column in columns for columns in others))


def _manifest(folder: Path) -> RunManifest:
    manifest = finished_run(folder)
    if manifest.shards is not None:
        raise InputError(
            "run folder",
            str(folder),
            f"has no records: its rows were packed into {manifest.shards}",
            "Read the shards, or run the pipeline without pack.",
        )
    return manifest
