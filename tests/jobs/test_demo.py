"""The demo runs whole, its shards do not depend on the runner, and it does nothing twice."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jobs.demo.collection import colourfulness, stand_in_score
from jobs.demo.stage import once
from pipelines.shards.validate import validate

ROOT = Path(__file__).parents[2]


def demo(folder: Path, *options: str) -> str:
    """Run the demo in `folder`, which gets `runs/demo`; returns what it printed."""
    command = [sys.executable, "-m", "jobs", "demo", *options]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder), "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def digests(folder: Path) -> dict[str, str]:
    """Relative name -> SHA-256 of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_grey_has_no_colourfulness_and_the_score_stays_on_its_scale() -> None:
    grey = np.full((8, 8, 3), 90, np.uint8)
    assert colourfulness(grey) == 0.0 and stand_in_score(grey) == 1.0
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert 1.0 < stand_in_score(noise) <= 10.0


def test_a_stage_that_fails_leaves_nothing_and_a_finished_one_is_not_done_again(tmp_path: Path) -> None:
    folder = tmp_path / "stage"

    def fail(aside: Path) -> None:
        (aside / "half").write_text("")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        once(folder, {"version": 1}, fail)
    assert not folder.exists()
    made: list[int] = []
    for version in (1, 1, 2):
        once(folder, {"version": version}, lambda aside, version=version: made.append(version))
    assert made == [1, 2]


@pytest.mark.slow
def test_shards_are_the_same_in_process_and_on_ray_with_two_workers(tmp_path: Path) -> None:
    here, ray = tmp_path / "here", tmp_path / "ray"
    here.mkdir()
    demo(here, "--data-only", "--runner", "in_process")
    # The model is the same in every demo; fitting its autoencoder again would only take time.
    shutil.copytree(here / "runs/demo/model", ray / "runs/demo/model")
    demo(ray, "--data-only", "--runner", "ray", "--workers", "2")
    for shards in ("image-shards", "edit-shards"):
        written = digests(here / "runs/demo" / shards)
        assert written == digests(ray / "runs/demo" / shards)
        assert any(name.endswith(".tar") for name in written)
        assert validate(ray / "runs/demo" / shards) == []


@pytest.mark.slow
def test_the_demo_runs_to_its_end_and_then_does_nothing_twice(tmp_path: Path) -> None:
    options = ("--runner", "in_process", "--train-steps", "4")
    demo(tmp_path, *options)
    folder = tmp_path / "runs/demo"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "random weights" in page and "adds up" in page and "does not add up" not in page
    assert (folder / "contact-sheet.png").read_bytes()[:4] == b"\x89PNG"
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and "report" not in path.name}
    said = demo(tmp_path, *options)
    assert said.count("finished") >= 6
    redone = [path for path, time in kept.items() if path.stat().st_mtime_ns != time]
    assert {path.name for path in redone} <= {"contact-sheet.png", "preview.html", "train.yaml", ".lock"}
