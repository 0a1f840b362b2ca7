"""`editmill status`: a run that works, one that was stopped, one that is finished."""

from __future__ import annotations

import io
import json
import subprocess
import time
from pathlib import Path

import pytest
from pair_files import command, editmill, environment, write_config, write_pairs
from rich.console import Console

from jobs.commits import Commit, CommittedFile
from jobs.progress import LineProgress
from jobs.run_folder import RunFolder
from jobs.run_status import read_status


def test_a_finished_run_has_the_counts_of_its_manifest(tmp_path: Path) -> None:
    config = write_config(tmp_path / "whole.yaml", write_pairs(tmp_path / "pairs"))
    assert editmill("run", config).returncode == 0
    said = editmill("status", tmp_path / "whole", "--json")
    assert said.returncode == 0, said.stderr
    status, manifest = json.loads(said.stdout), json.loads((tmp_path / "whole" / "manifest.json").read_text())
    assert status["state"] == "finished"
    for stage, expected in zip(status["stages"], manifest["stages"], strict=True):
        assert stage["partitions"] == len(manifest["partitions"])
        assert {name: stage[name] for name in ("rows_in", "kept", "rejected")} == {
            name: expected[name] for name in ("rows_in", "kept", "rejected")
        }
    assert all(stage["rows_per_second"] > 0 for stage in status["stages"])
    shown = editmill("status", tmp_path / "whole")
    assert "finished" in shown.stdout
    assert "unchanged" in shown.stdout


@pytest.mark.slow
def test_a_killed_run_is_stopped_and_its_next_start_counts_what_was_found(tmp_path: Path) -> None:
    config = write_config(tmp_path / "broken.yaml", write_pairs(tmp_path / "pairs", count=32, side=512))
    process = subprocess.Popen(command("run", str(config)), env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    commits = tmp_path / "broken" / "steps" / "01-masks"
    while len(list(commits.glob("*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read_status(tmp_path / "broken").state == "running"
    process.kill()
    process.wait()
    stopped = editmill("status", tmp_path / "broken")
    assert stopped.returncode == 1
    assert "stopped before its end" in stopped.stdout
    done = read_status(tmp_path / "broken").stages[1].partitions
    # The third commit may stand without its line in the log yet.
    assert 2 <= done < 16

    with (tmp_path / "broken" / "log.jsonl").open("a") as log:
        log.write('{"event": "cut off by a cra')
    assert editmill("run", config).returncode == 0
    status = read_status(tmp_path / "broken")
    assert status.state == "finished"
    assert [stage.partitions for stage in status.stages] == [16, 16]
    assert status.stages[0].rows_in == 32
    assert status.stages[1].partitions - status.stages[1].partitions_now >= done
    assert status.pack is not None
    assert status.pack[1] == status.pack[2]


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    said = editmill("status", tmp_path)
    assert said.returncode == 2
    assert "has no manifest.json" in said.stderr
    assert RunFolder(tmp_path).path.exists()


def test_lines_tell_of_stages_under_way_with_pace_and_the_time_left() -> None:
    file = CommittedFile(name="delta", rows=3, bytes=1, sha256="0" * 64)
    values = {"stage": "masks", "version": 1, "fingerprint": "f", "rows_in": 4, "kept": 3, "rejected": {"unchanged": 1}}
    said = io.StringIO()
    lines = LineProgress(Console(file=said, width=200), interval_s=0.0)
    lines.begin(["source", "masks"], 3)
    for number in range(3):
        commit = Commit(partition=str(number), position=1, delta=file, outcomes=None, seconds=1.0, **values)
        lines.committed(commit, found=number == 0)
    first, second, last = said.getvalue().splitlines()
    assert first == "masks: 1 of 3 partitions, 4 rows, 3 kept, 1 rejected"
    assert second.startswith("masks: 2 of 3 partitions, 8 rows, 6 kept, 2 rejected, ")
    assert "rows/s, about" in second and second.endswith("left")
    assert last.startswith("masks: 12 rows, 9 kept, 3 rejected (")
