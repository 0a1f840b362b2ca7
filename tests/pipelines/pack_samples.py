"""Small samples and picklable loaders for the tests of packing, reading and validation."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from schemas.images import encode_mask
from schemas.keys import image_key, pair_key
from schemas.records import EDIT_SAMPLE, IMAGE_RECORD


def encoded(generator: np.random.Generator, width: int, height: int, form: str) -> bytes:
    """Random pixels, coarse so that they compress."""
    small = generator.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((width, height)).save(stream, form)
    return stream.getvalue()


def edit_row(number: int, **changes: object) -> dict[str, Any]:
    """One EditSample row; the same number gives the same row."""
    return {**_edit_row(number), **changes}


@cache
def _edit_row(number: int) -> dict[str, Any]:
    generator = np.random.default_rng(number)
    width, height = ((64, 48), (48, 64), (64, 64))[number % 3]
    references = [encoded(generator, width, height, "JPEG") for _ in range(1 + number % 2)]
    target = encoded(generator, width, height, "PNG" if number % 4 else "WEBP")
    mask = np.zeros((height, width), np.bool_)
    mask[8 : 16 + number % 16, 8:24] = True
    return {
        "key": pair_key(references, target, f"make it {number} — größer"),
        "references": [{"bytes": data, "path": f"{number}_{i}.jpg"} for i, data in enumerate(references)],
        "target": {"bytes": target, "path": f"after/{number}.png"},
        "instruction": f"make it {number} — größer",
        "edit_type": ("recolour", "insert", None)[number % 3],
        "source": "test",
        "licence": None if number % 2 else "CC0",
        "mask": {"bytes": encode_mask(mask), "path": None},
        "mask_status": "ok" if number % 5 else "global",
        "edited_fraction": float(mask.mean()),
        "width": width,
        "height": height,
        "mask_recipe": "seed",
        "mask_recipe_version": 1,
        "mask_parameters": '{"threshold":18}',
        "judge_scores": [("fidelity", 0.1), ("success", 0.5)] if number % 2 else None,
        "captions": [
            {"text": "a", "kind": "long", "model": "m", "prompt": "p", "prompt_version": 1, "prompt_sha256": "00"}
        ],
    }


def image_row(number: int, **changes: object) -> dict[str, object]:
    """One ImageRecord row whose image was fetched."""
    data = encoded(np.random.default_rng(number), 64, 48, "JPEG" if number % 2 else "PNG")
    url = f"https://example.org/{number}"
    caption = {"text": f"long {number}", "kind": "long", "model": "m", "prompt": "p", "prompt_version": 2}
    row: dict[str, object] = {
        "key": image_key(url, "x"),
        "url": url,
        "caption": f"original {number}",
        "width": 64,
        "height": 48,
        "aesthetic": 6.1,
        "image": {"bytes": data, "path": f"{number}.jpg"},
        "captions": [caption] if number % 2 else None,
    }
    return {**row, **changes}


@dataclass(frozen=True)
class RowsLoader:
    """A partition of the rows numbered start..stop-1."""

    start: int
    stop: int
    record: str = "edits"

    def __call__(self) -> pa.Table:
        make, schema = (edit_row, EDIT_SAMPLE) if self.record == "edits" else (image_row, IMAGE_RECORD)
        return table_of([make(number) for number in range(self.start, self.stop)], schema.name)


@dataclass(frozen=True)
class TableLoader:
    """A partition that is a table."""

    table: pa.Table

    def __call__(self) -> pa.Table:
        return self.table


def table_of(rows: list[dict[str, object]], record: str = EDIT_SAMPLE.name) -> pa.Table:
    """Rows as a table with the record's types, nulls allowed everywhere."""
    schema = EDIT_SAMPLE if record == EDIT_SAMPLE.name else IMAGE_RECORD
    return pa.Table.from_pylist(rows, schema=pa.schema([field.with_nullable(True) for field in schema.fields]))


def loaders_of(total: int, per_partition: int, record: str = "edits") -> list[RowsLoader]:
    """Partitions of rows 0..total-1."""
    return [RowsLoader(start, min(start + per_partition, total), record) for start in range(0, total, per_partition)]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
