"""What a mask report counts: one small value a row, kept or rejected, from a run folder or a packed folder.

Images and masks are never read here: columns are projected, and a rejected pair left its figures in its outcome.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.run_folder import RunFolder
from jobs.run_manifest import RunManifest
from pipelines.shards.read import PackedFolder
from schemas.outcomes import up_to_date

_COLUMNS = ("key", "source", "mask_status", "edited_fraction", "mask_confidence", "mask_evidence", "mask_recipe")


@dataclass(frozen=True)
class MaskRow:
    """One row.

    Args:
        key: of the row.
        source: the data set it comes from, or None.
        status: of its mask; None where no mask was built.
        reason: why it was rejected; None where it was kept.
        fraction: edited fraction in 0..1, or None.
        confidence: of the mask in 0..1, or None where its recipe has none.
        recipe: name of the recipe, or None.
        evidence: what the recipe measured and decided by; may be empty.
        partition: name of the partition that holds it; "" in a packed folder.
    """

    key: str
    source: str | None
    status: str | None
    reason: str | None
    fraction: float | None
    confidence: float | None
    recipe: str | None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    partition: str = ""

    @property
    def compared(self) -> Mapping[str, Any] | None:
        """What a second recipe said (see `pipelines.masks.step.comparison`), or None."""
        found: Mapping[str, Any] | None = self.evidence.get("compare")
        return found


def rows_of_run(manifest: RunManifest, folder: RunFolder) -> Iterator[MaskRow]:
    """Every row that the run read: those it kept (unless they were packed), then those it rejected, by partition.

    Raises:
        InputError: a file is not what was committed.
    """
    for entry in manifest.partitions:
        if entry.records is not None:
            file = pq.ParquetFile(folder.path / entry.records.name)
            columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=columns):
                yield from _kept(batch.to_pylist(), entry.name)
        if entry.outcomes is not None:
            yield from _rejected(up_to_date(folder.read_table(entry.outcomes)), entry.name)
    if manifest.pack_outcomes is not None:
        yield from _rejected(up_to_date(folder.read_table(manifest.pack_outcomes)), "")


def rows_of_shards(packed: PackedFolder) -> Iterator[MaskRow]:
    """Every sample of a packed folder. Parquet shards are read by column where there are some; tars whole.

    Raises:
        ShardError: a shard is missing or damaged.
    """
    files = [entry.name for entry in packed.manifest.shards if entry.format == "parquet"]
    if not files:
        yield from _kept(packed.samples(), "")
        return
    for name in files:
        yield from _kept(_parquet_rows(packed.folder / name), "")


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(path).iter_batches(columns=list(_COLUMNS)):
        yield from batch.to_pylist()


def _kept(rows: Iterable[Mapping[str, Any]], partition: str) -> Iterator[MaskRow]:
    for row in rows:
        evidence = row.get("mask_evidence")
        yield MaskRow(
            row["key"],
            row.get("source"),
            row["mask_status"],
            None,
            row["edited_fraction"],
            row.get("mask_confidence"),
            row["mask_recipe"],
            json.loads(evidence) if evidence else {},
            partition,
        )


def _rejected(outcomes: pa.Table, partition: str) -> Iterator[MaskRow]:
    for row in outcomes.to_pylist():
        values = json.loads(row["evidence"]) if row["evidence"] else {}
        yield MaskRow(
            row["key"],
            row["source"],
            values.get("mask_status"),
            row["reason"],
            values.get("edited_fraction"),
            values.get("mask_confidence"),
            values.get("mask_recipe"),
            values.get("mask_evidence") or {},
            partition,
        )
