"""What a curator's marks came to in a finished run: every mark met a row that was kept or rejected, or met none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pyarrow.parquet as pq

from jobs.run_folder import RunFolder
from jobs.run_manifest import RunManifest
from pipelines.review.marks import Mark
from pipelines.review.step import Review
from schemas.layout import INDEX_NAME

_NAMED = 3
"""Keys without a row that are named."""


class Fate(StrEnum):
    """What became of the row that a mark speaks of."""

    KEPT = "kept"
    REVIEWED = "rejected by review"
    ELSEWHERE = "rejected by another step"
    NO_ROW = "no such row"


@dataclass(frozen=True)
class MarksMet:
    """The marks of one file.

    Args:
        path: the marks file.
        counts: (mark, fate) -> marks; they add up to all marks of the file, each key once.
        without_row: the keys of the marks that met no row.
    """

    path: Path
    counts: Mapping[tuple[Mark, Fate], int]
    without_row: tuple[str, ...]

    def of(self, mark: Mark | None = None, fate: Fate | None = None) -> int:
        """Marks of one kind, of one fate, or of both."""
        return sum(
            count
            for (one, what), count in self.counts.items()
            if (mark is None or one is mark) and (fate is None or what is fate)
        )

    def sentence(self) -> str:
        """All of it in one line for a person."""
        kinds = ", ".join(f"{self.of(mark):,} {mark}" for mark in Mark)
        told = f"{self.path}: {self.of():,} marks ({kinds}); {self.of(fate=Fate.REVIEWED):,} rows rejected by them"
        if elsewhere := self.of(fate=Fate.ELSEWHERE):
            told += f"; {elsewhere:,} met a row that another step rejected"
        if self.without_row:
            named = ", ".join(self.without_row[:_NAMED]) + (", ..." if len(self.without_row) > _NAMED else "")
            told += f"; {len(self.without_row):,} met no row ({named})"
        return told


def marks_met(step: Review, manifest: RunManifest, folder: RunFolder) -> MarksMet:
    """Hold the marks of `step` against what the run read, keys only."""
    fates: dict[str, Fate] = {}
    for key, by in _rejected(manifest, folder):
        if key in step.marks and fates.get(key) is not Fate.REVIEWED:
            fates[key] = Fate.REVIEWED if by == step.name else Fate.ELSEWHERE
    # Last, since a key that is kept may also stand among the rejected: as a repeat.
    for key in _kept(manifest, folder):
        if key in step.marks:
            fates[key] = Fate.KEPT
    counts = Counter((marked.mark, fates.get(key, Fate.NO_ROW)) for key, marked in step.marks.items())
    return MarksMet(step.config.marks, counts, tuple(key for key in step.marks if key not in fates))


def _rejected(manifest: RunManifest, folder: RunFolder) -> Iterator[tuple[str, str]]:
    for file in (*(entry.outcomes for entry in manifest.partitions), manifest.pack_outcomes):
        if file is not None:
            table = pq.read_table(folder.path / file.name, columns=["key", "step"])
            yield from zip(table["key"].to_pylist(), table["step"].to_pylist(), strict=True)


def _kept(manifest: RunManifest, folder: RunFolder) -> Iterator[str]:
    if manifest.shards is not None:
        yield from pq.read_table(Path(manifest.shards) / INDEX_NAME, columns=["key"])["key"].to_pylist()
    for entry in manifest.partitions:
        if entry.records is not None:
            yield from pq.read_table(folder.path / entry.records.name, columns=["key"])["key"].to_pylist()
