"""Two thousand damaged images and five hundred damaged files: each gets a reason, nothing crashes, hangs or swallows
memory. The work is done in processes of its own, since a C library that falls takes its process along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
IMAGES, FILES = 2000, 500
LONGEST_S = 60.0
PEAK_MIB = 3000
"""The largest image that is let in has 64 million pixels: 192 MB for each of the pair's, and a few times that for a
mask."""
IMAGE_REASONS = {
    "image_corrupt",
    "image_empty",
    "image_format_unknown",
    "image_too_large",
    "image_too_small",
    "image_truncated",
    "misaligned",
    "size_mismatch",
    "too_small",
    "unchanged",
}

pytestmark = pytest.mark.slow


def start(kind: str, folder: Path, seed: int, count: int) -> subprocess.Popen[str]:
    folder.mkdir()
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    # To a file, for a pipe that nobody reads would stop the process.
    with (folder / "told").open("w") as told, (folder / "stderr").open("w") as errors:
        return subprocess.Popen(
            [
                sys.executable,
                "-X",
                "faulthandler",
                str(HERE / "mutations.py"),
                kind,
                str(folder),
                str(seed),
                str(count),
            ],
            stdout=told,
            stderr=errors,
            text=True,
            env=environment,
        )


def finish(process: subprocess.Popen[str], folder: Path) -> dict[str, int]:
    """What the process met, once it has come to its end in good order."""
    try:
        code = process.wait(timeout=240)
    finally:
        process.kill()
    at = (folder / "at").read_text()
    assert code == 0, f"exit code {code} at case {at}: {(folder / 'stderr').read_text()[-2000:]}"
    told = json.loads((folder / "told").read_text())
    assert not told["faults"]
    assert told["longest_s"] < LONGEST_S and told["peak_mib"] < PEAK_MIB
    outcomes: dict[str, int] = told["outcomes"]
    return outcomes


def test_damaged_images_each_get_a_mask_or_a_reason(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    processes = [start("images", folder, seed, IMAGES // 2) for seed, folder in enumerate(folders)]
    for process, folder in zip(processes, folders, strict=True):
        outcomes = finish(process, folder)
        assert sum(outcomes.values()) == IMAGES // 2
        assert set(outcomes) <= IMAGE_REASONS | {"kept"}
        assert {"kept", "image_corrupt", "image_truncated", "image_too_large", "image_format_unknown"} <= set(outcomes)


def test_damaged_files_are_read_refused_or_lose_single_rows(tmp_path: Path) -> None:
    outcomes = finish(start("files", tmp_path / "files", 7, FILES), tmp_path / "files")
    assert {"kept", "InputError", "ShardError", "line_not_json", "image_not_found"} <= set(outcomes)
