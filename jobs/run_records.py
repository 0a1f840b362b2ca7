"""The source `run_records`: the rows of a finished run, read through its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from jobs.run_folder import ROW_GROUP, read_committed
from jobs.run_manifest import RunManifest, read_run_manifest
from pipelines.source import Partition, Source
from pipelines.step import StepResult
from schemas.config import Config
from schemas.errors import InputError
from schemas.outcomes import no_rejections


class RunRecordsConfig(Config):
    """Which run."""

    path: Path
    """The run folder."""
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
        found = [entry.records for entry in self._manifest().partitions if entry.records and entry.records.rows]
        if not found:
            raise InputError("run folder", str(self.config.path), "kept no rows", "See its outcomes/ for the reasons.")
        step = -(-self.config.rows_per_partition // ROW_GROUP) * ROW_GROUP
        pieces = [(file, start) for file in found for start in range(0, file.rows, step)]
        return [
            Partition(f"{number:05d}-{file.sha256[:16]}-{start}", file.name, start, min(start + step, file.rows))
            for number, (file, start) in enumerate(pieces)
        ]

    def read(self, partition: Partition) -> StepResult:
        """The rows of one partition; its file must still be the one that the manifest names."""
        _, digest, _ = partition.name.split("-")
        groups = range(partition.start // ROW_GROUP, -(-partition.stop // ROW_GROUP))
        return StepResult(read_committed(self.config.path, partition.path, digest, groups), no_rejections())

    def identity(self) -> dict[str, Any]:
        """Without the folder: partitions are named by content, so a run that was moved is the same input."""
        return {"source": self.name, "version": self.version}

    def columns(self) -> tuple[str, ...]:
        """The columns of the run's records."""
        return self._manifest().columns

    def _manifest(self) -> RunManifest:
        manifest = read_run_manifest(self.config.path)
        if manifest.status != "finished":
            raise InputError(
                "run folder", str(self.config.path), "is of a run that did not finish", "Run it again, to its end."
            )
        if manifest.shards is not None:
            raise InputError(
                "run folder",
                str(self.config.path),
                f"has no records: its rows were packed into {manifest.shards}",
                "Read the shards, or run the pipeline without pack.",
            )
        return manifest
