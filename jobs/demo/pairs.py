"""A public-style set of edit pairs, made from photographs by real edit operations, whose edited regions are known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pipelines.synthesis.edits import EditKind, KnownEdit
    from pipelines.synthesis.photographs import Photograph

PAIRS_NAME = "pairs.jsonl"
KNOWN_NAME = "known_regions.parquet"
EDITS: tuple[EditKind, ...] = ("recolour", "insert", "remove", "relight", "two", "global")
"""One pair of each kind is made of every photograph."""
JPEG_QUALITY = 90


def make_edits(photographs: Sequence[Photograph], seed: int) -> Iterator[tuple[Photograph, KnownEdit]]:
    """Every kind of edit on every photograph; objects to insert come from the next photograph."""
    from pipelines.synthesis.edits import make_edit

    for number, photograph in enumerate(photographs):
        donor = photographs[(number + 1) % len(photographs)]
        for kind in EDITS:
            yield photograph, make_edit(kind, photograph, seed, donor=donor)


def write_pairs(folder: Path, photographs: Sequence[Photograph], seed: int) -> None:
    """Write the pairs as JPEG files with a JSON line each, and the known regions apart.

    Three of the rows are of the sort that public sets hold too: a pair in which nothing was edited, a target cut off
    in the middle, and a row whose target is missing.

    Args:
        folder: gets `images/`, `pairs.jsonl` and `known_regions.parquet` (key, kind, mask).
        photographs: at least two.
        seed: of the edits.
    """
    from pipelines.synthesis.edits import make_edit
    from pipelines.synthesis.photographs import encode_jpeg
    from schemas.images import encode_mask
    from schemas.keys import pair_key

    (folder / "images").mkdir()
    lines: list[dict[str, str]] = []
    known: list[dict[str, str | bytes]] = []

    def add(photograph: Photograph, edit: KnownEdit, name: str) -> Path:
        files = {"reference": f"images/{name}.reference.jpg", "target": f"images/{name}.target.jpg"}
        data = [encode_jpeg(edit.reference, JPEG_QUALITY), encode_jpeg(edit.target, JPEG_QUALITY)]
        for file, content in zip(files.values(), data, strict=True):
            (folder / file).write_bytes(content)
        row = {"instruction": edit.instruction, "edit_type": edit.edit_type, "source": "editmill-demo"}
        lines.append({**files, **row, "licence": photograph.licence})
        key = pair_key([data[0]], data[1], edit.instruction)
        known.append({"key": key, "kind": edit.kind, "mask": encode_mask(edit.mask)})
        return folder / files["target"]

    for photograph, edit in make_edits(photographs, seed):
        add(photograph, edit, f"{photograph.name}-{edit.kind}")
    first = photographs[0]
    add(first, make_edit("unchanged", first, seed), f"{first.name}-unchanged")
    cut_off = add(first, make_edit("recolour", first, seed + 1), f"{first.name}-cut-off")
    cut_off.write_bytes(cut_off.read_bytes()[: cut_off.stat().st_size // 2])
    lines.append({**lines[0], "target": "images/missing.jpg"})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / PAIRS_NAME).write_text(text, encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(known), folder / KNOWN_NAME)
