"""`report.html` of a run: what became of every row, with reasons in words and how the edited fractions spread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.commits import CommittedFile
from jobs.event_log import read_events
from jobs.marks_met import Fate, MarksMet
from jobs.model_costs import ModelCost
from jobs.planning.forecast_file import Deviation
from jobs.report.counts import StageCounts
from jobs.report.mask_report import MASK_REPORT, has_masks
from jobs.report.page import render_report
from jobs.report.sections import Histogram, Section, Table, counts_section
from jobs.run_folder import RunFolder
from jobs.run_manifest import RunManifest
from jobs.summary import counts_of
from pipelines.review.marks import Mark
from schemas.layout import INDEX_NAME
from schemas.manifest import read_manifest

EXAMPLES = 3
"""Rejected rows shown for each reason."""
SHARDS = 200
"""Files of shards listed."""


def run_page(
    manifest: RunManifest, folder: RunFolder, marks: Sequence[MarksMet] = (), costs: Sequence[ModelCost] = ()
) -> str:
    """The page of a finished run, as text.

    Args:
        marks: what the marks of each step `review` came to.
        costs: of each step that asked a model.
    """
    counts = counts_of(manifest)
    first, last = counts[0], counts[-1]
    written = sum(file.rows for file in _outcome_files(manifest))
    rejected = sum(count.rows_rejected for count in counts)
    where = "is in outcomes/ with its reason" if written == rejected else "is counted under its reason"
    intro = f"{first.rows_in:,} rows were read, {last.kept:,} kept. Every row that was not {where}."
    if has_masks(manifest):
        intro += f" What the masks are like is told in {MASK_REPORT}, beside this page."
    sections: list[Section] = [counts_section(counts)]
    examples = _examples(manifest, folder)
    if examples:
        caption = f"Up to {EXAMPLES} of each reason; outcomes/ holds {written:,} of {rejected:,} rejected rows."
        sections.append(
            Table(("step", "reason", "key", "why"), examples, caption=caption, title="Rejected, for example")
        )
    sections += _course(counts, folder)
    if costs:
        paid = [(one.step, one.requests, one.prompt_tokens, one.completion_tokens, one.spent) for one in costs]
        caption = "Over all starts of the run; replies that were found in the cache are not among them."
        columns = ("step", "replies", "prompt tokens", "completion tokens", "money spent")
        sections.append(Table(columns, paid, caption=caption, title="What models were asked"))
    for met in marks:
        rows: list[tuple[str | int, ...]] = [
            (mark.value, *(met.of(mark, fate) for fate in Fate), met.of(mark)) for mark in Mark
        ]
        columns = ("mark", *Fate, "marks")
        sections.append(Table(columns, rows, caption=met.sentence(), title="What the curator's marks came to"))
    fractions = _edited_fractions(manifest, folder)
    if fractions:
        caption = f"Edited fraction f = A_edit / A_total of the {len(fractions):,} samples kept."
        sections.append(
            Histogram(fractions, "edited fraction", bounds=(0.0, 1.0), caption=caption, title="How much was edited")
        )
    if manifest.shards is not None:
        files = read_manifest(Path(manifest.shards)).shards
        rows = [(file.name, file.samples, file.bytes, file.sha256) for file in files[:SHARDS]]
        more = f"; {len(files) - SHARDS:,} more are in its manifest.json" if len(files) > SHARDS else ""
        caption = f"{manifest.shards}{more}"
        sections.append(Table(("file", "samples", "bytes", "sha256"), rows, caption=caption, title="Shards"))
    settings = list(_settings("", manifest.config))
    sections.append(Table(("key", "value"), settings, title="The config, resolved"))
    return render_report(f"editmill run: {manifest.name}", intro, sections)


def _course(counts: Sequence[StageCounts], folder: RunFolder) -> Iterator[Section]:
    """What the stages had to tell and how long they took, and how far the plan was off, from the log's last start."""
    took: dict[int, float] = {}
    plan: list[tuple[str, float, float, str]] = []
    for event in read_events(folder.log):
        if event["event"] == "run_begins":
            took, plan = {}, []
        elif event["event"] == "stage_took":
            took[event["position"]] = event["seconds"]
        elif event["event"] == "plan_was_off":
            one = Deviation(event["quantity"], event["planned"], event["actual"])
            plan.append((one.name, _round(one.planned), _round(one.actual), one.error()))
    rows: list[tuple[str | float, ...]] = [
        (count.name, _round(took[position]), _round(count.rows_in / max(took[position], 1e-3)), _told(count))
        for position, count in enumerate(counts)
        if position in took
    ]
    if rows:
        columns: tuple[str, ...] = ("step", "core seconds", "rows per core second", "what else there is to tell")
        if not any(told for *_, told in rows):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        caption = "Work of one core, over all starts of the run; waiting and the pack are not in it."
        yield Table(columns, rows, caption=caption, title="How long the steps took")
    if plan:
        columns = ("quantity", "planned", "was", "error")
        yield Table(columns, plan, title="What the plan said")


def _told(count: StageCounts) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in count.figures.items())


def _round(value: float) -> float:
    """To four digits, or to whole numbers."""
    return float(f"{value:.4g}") if value < 1000 else round(value)


def _settings(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every value of a nested config with its place, `steps[0].masks.recipe`."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _settings(f"{where}.{key}" if where else str(key), inner)
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for position, inner in enumerate(value):
            yield from _settings(f"{where}[{position}]", inner)
    else:
        yield where, json.dumps(value, ensure_ascii=False)


def _examples(manifest: RunManifest, folder: RunFolder) -> list[tuple[str, str, str, str]]:
    wanted = {
        (stage.name, reason): min(EXAMPLES, rows)
        for stage in (*manifest.stages, *([manifest.pack] if manifest.pack else []))
        for reason, rows in stage.rejected.items()
    }
    found: dict[tuple[str, str], list[tuple[str, str, str, str]]] = {kind: [] for kind in wanted}
    for table in _outcomes(manifest, folder):
        if all(len(found[kind]) >= count for kind, count in wanted.items()):
            break
        steps, reasons = table["step"].to_pylist(), table["reason"].to_pylist()
        for row, kind in enumerate(zip(steps, reasons, strict=True)):
            if len(found.setdefault(kind, [])) < EXAMPLES:
                found[kind].append((*kind, table["key"][row].as_py(), table["sentence"][row].as_py()))
    return [row for rows in found.values() for row in rows]


def _outcomes(manifest: RunManifest, folder: RunFolder) -> Iterator[pa.Table]:
    for file in _outcome_files(manifest):
        yield folder.read_table(file)


def _outcome_files(manifest: RunManifest) -> list[CommittedFile]:
    files = [*(entry.outcomes for entry in manifest.partitions), manifest.pack_outcomes]
    return [file for file in files if file is not None]


def _edited_fractions(manifest: RunManifest, folder: RunFolder) -> list[float]:
    if manifest.shards is not None:
        index = pq.read_table(Path(manifest.shards) / INDEX_NAME, columns=["edited_fraction"])
        return [value for value in index["edited_fraction"].to_pylist() if value is not None]
    if "edited_fraction" not in manifest.columns:
        return []
    values: list[float] = []
    for entry in manifest.partitions:
        if entry.records is not None:
            column = pq.read_table(folder.path / entry.records.name, columns=["edited_fraction"])
            values.extend(value for value in column["edited_fraction"].to_pylist() if value is not None)
    return values
