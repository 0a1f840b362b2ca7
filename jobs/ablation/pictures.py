"""A grid of edits: the same held-out samples by every arm, one column an arm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.ablation.runs import Run
from jobs.report.sections import Section, Strip, Strips
from trainer.data.members import EncodedSample, read_sample
from trainer.data.shards import ShardIndex, open_shards
from trainer.validation.bins import AREA_BINS
from trainer.validation.validate import EDITS_FILE, OUTPUTS

ROWS = 12
"""Samples shown."""


def edit_grid(runs: Sequence[Run], weights: str) -> list[Section]:
    """The edits of the first seed, by `weights` ("ema" or "raw"); none where no edit was sampled."""
    first = [run for run in runs if run.seed == runs[0].seed]
    edits = _edits(first[0], weights)[:ROWS]
    if not edits:
        return []
    samples = _samples(first[0], {edit["key"] for edit in edits})
    strips = []
    for edit in edits:
        sample = samples[edit["key"]]
        name = f"{edit['key']}-seed-{edit['seed']}-{weights}.png"
        outputs = [_picture(run.evaluation / OUTPUTS / name) for run in first]
        pictures = [sample.references[0] if sample.references else None, sample.target, *outputs]
        strips.append(Strip(edit["key"][:8], [AREA_BINS[edit["area_bin"]]], sample.instruction, pictures))
    columns = ["reference", "target", *(run.arm.replace("_", " ") for run in first)]
    caption = f"Seed {runs[0].seed}, {weights} weights, held-out samples; the same starting noise for every arm."
    return [Strips(columns, strips, caption, "Edits by every arm")]


def _edits(run: Run, weights: str) -> list[dict[str, Any]]:
    path = run.evaluation / EDITS_FILE
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["weights"] == weights]


def _samples(run: Run, keys: set[str]) -> dict[str, EncodedSample]:
    validation = run.config.validation
    if validation is None:
        return {}
    folders = [Path(folder) for folder in validation.shards]
    return _of_index(open_shards(folders, set(validation.mask_statuses), validation.subsets), keys)


def _of_index(index: ShardIndex, keys: set[str]) -> dict[str, EncodedSample]:
    return {
        index.key(number): read_sample(index.shard(number), *index.span(number))
        for number in range(len(index))
        if index.key(number) in keys
    }


def _picture(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
