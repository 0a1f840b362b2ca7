"""`editmill masks DATA`: public data sets are told by their layout, and read by their own source."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from source_layouts import magicbrush


def editmill(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from jobs.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])


def test_a_public_set_is_masked_as_it_was_released(tmp_path: Path) -> None:
    layout = magicbrush(tmp_path / "MagicBrush")
    ended = editmill("masks", tmp_path / "MagicBrush", "--output", tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert list(manifest["config"]["source"]) == ["magicbrush"]
    assert manifest["stages"][0]["kept"] == layout.pairs
    assert manifest["stages"][0]["rejected"] == dict(layout.reasons)


def test_the_source_may_be_named_and_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    magicbrush(tmp_path / "data")
    data, run = tmp_path / "data", tmp_path / "run"
    as_list = ["--column", "references=source_img", "--column", "target=target_img"]
    named = editmill("masks", data, "--format", "edit_pairs_parquet", *as_list, "--output", run)
    assert named.returncode == 0, named.stderr
    manifest = json.loads((run / "manifest.json").read_text())
    assert list(manifest["config"]["source"]) == ["edit_pairs_parquet"]
    wrong = editmill("masks", data, "--format", "magicbrsh", "--output", tmp_path / "other")
    assert wrong.returncode == 2
    assert "must be one of" in wrong.stderr
    column = editmill("masks", data, "--format", "magicbrush", *as_list, "--output", tmp_path / "other")
    assert column.returncode == 2
    assert "does not belong to the source 'magicbrush'" in column.stderr
    assert not (tmp_path / "other").exists()
