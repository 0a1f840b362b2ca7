"""Before/after pairs on disk, small and made on the spot."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]


def write_pairs(folder: Path, count: int = 12, side: int = 96) -> Path:
    """`count` pairs with a bright square each, of which every fifth is unchanged and the last has a broken target."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(7)
    lines = []
    for number in range(count):
        before = generator.integers(0, 120, (side, side, 3), dtype=np.uint8)
        after = before.copy()
        if number % 5:
            after[16 : 48 + number, 24:56] = 240
        Image.fromarray(before).save(folder / f"{number}-before.png")
        Image.fromarray(after).save(folder / f"{number}-after.png")
        lines.append(
            {"reference": f"{number}-before.png", "target": f"{number}-after.png", "instruction": f"edit {number}"}
        )
    (folder / f"{count - 1}-after.png").write_bytes(b"\x89PNG broken")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_config(path: Path, pairs: Path, **changes: Any) -> Path:
    """A pipeline over `pairs` with masks and a pack, in partitions of two rows; its run folder lies beside it."""
    values: dict[str, Any] = {
        "name": path.stem,
        "output": str(path.with_suffix("")),
        "source": {"edit_pairs_jsonl": {"path": str(pairs), "rows_per_partition": 2}},
        "steps": [{"masks": {"recipe": "seed"}}],
        "pack": {"samples_per_shard": 3},
        **changes,
    }
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from jobs.cli import main; main()", *arguments]


def editmill(*arguments: object, cwd: Path | None = None, timeout: int = 120) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    return subprocess.run(
        command(*map(str, arguments)), capture_output=True, text=True, cwd=cwd, timeout=timeout, env=environment()
    )


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def lines_of(process: subprocess.CompletedProcess[str], names: Sequence[str] = ("error:",)) -> list[str]:
    return [line for line in process.stderr.splitlines() if line.startswith(tuple(names))]
