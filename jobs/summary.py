"""A finished run in numbers: from what was heard of it to its manifest, and from the manifest to counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.chain import Chain
from jobs.commits import CommittedFile, Finished
from jobs.config import PipelineConfig
from jobs.report.counts import StageCounts, Tally, check_chain
from jobs.run_folder import RunFolder
from jobs.run_manifest import PartitionEntry, RunManifest, StageEntry
from pipelines.pack import PackResult
from pipelines.source import Partition


def finished_manifest(
    config: PipelineConfig,
    mark: str,
    chain: Chain,
    partitions: Sequence[Partition],
    tally: Tally,
    finishes: Mapping[str, Finished],
    counts: Sequence[StageCounts],
    packed: tuple[PackResult, CommittedFile | None] | None,
    folder: RunFolder,
) -> RunManifest:
    """The manifest of a run whose every partition is finished, and packed where it is to be.

    Args:
        mark: the run's fingerprint.
        packed: the pack's result and its outcomes file, or None where nothing was packed.
    """
    entries = []
    for partition in partitions:
        rows, finish = tally.partitions[partition.name], finishes[partition.name]
        entries.append(
            PartitionEntry(
                name=partition.name,
                path=partition.path,
                rows=tuple(rows[position] for position in sorted(rows)),
                records=finish.records,
                outcomes=finish.outcomes,
            )
        )
    first = next((entry.records for entry in entries if entry.records is not None), None)
    pack_entry = None
    if packed is not None:
        shards = packed[0].manifest
        pack_entry = StageEntry(
            name="pack",
            version=shards.manifest_version,
            fingerprint=shards.fingerprint,
            rows_in=shards.rows_in,
            kept=shards.kept,
            rejected=shards.rejected,
        )
    return RunManifest(
        status="finished",
        name=config.name,
        fingerprint=mark,
        config=config.as_json(),
        stages=tuple(
            StageEntry(
                name=stage.name,
                version=stage.version,
                fingerprint=stage.fingerprint,
                rows_in=count.rows_in,
                kept=count.kept,
                rejected=count.rejected,
                figures=count.figures,
            )
            for stage, count in zip(chain.plan.stages, counts, strict=True)
        ),
        pack=pack_entry,
        shards=None if packed is None else str(config.shards),
        columns=() if first is None else tuple(folder.read_schema(first).names),
        partitions=tuple(entries),
        pack_outcomes=None if packed is None else packed[1],
    )


def counts_of(manifest: RunManifest) -> tuple[StageCounts, ...]:
    """The counts that a manifest holds: of each stage, and of the pack."""
    entries = [*manifest.stages, *([manifest.pack] if manifest.pack is not None else [])]
    counts = tuple(
        StageCounts(entry.name, entry.rows_in, entry.kept, entry.rejected, entry.figures) for entry in entries
    )
    check_chain(counts)
    return counts


def files_of(manifest: RunManifest) -> list[CommittedFile]:
    """The files in `records/` and `outcomes/` that a manifest names."""
    files = [file for entry in manifest.partitions for file in (entry.records, entry.outcomes)]
    return [file for file in (*files, manifest.pack_outcomes) if file is not None]
