"""SIGKILL in the middle, and the same command again: the same files, and nothing done twice."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from chain_parts import tree
from pair_files import command, editmill, environment, write_config, write_pairs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, and the run folder `whole` of an unbroken run over them."""
    folder = tmp_path_factory.mktemp("killed")
    pairs = write_pairs(folder / "pairs", count=32, side=512)
    assert editmill("run", write_config(folder / "whole.yaml", pairs)).returncode == 0
    return folder


@pytest.mark.parametrize("runner", [["--runner", "in_process"], ["--runner", "ray", "--workers", "2"]])
def test_killed_and_started_again(data: Path, tmp_path: Path, runner: list[str]) -> None:
    broken = write_config(tmp_path / "broken.yaml", data / "pairs")
    commits = tmp_path / "broken" / "steps" / "01-masks"
    process = subprocess.Popen(command("run", str(broken), *runner), env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(list(commits.glob("*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(2)  # Workers of a cluster notice a moment later that their driver is gone.
    left = {path: path.stat().st_mtime_ns for path in commits.glob("*.json")}
    assert 3 <= len(left) < 16
    assert json.loads((tmp_path / "broken" / "manifest.json").read_text())["status"] == "running"

    again = editmill("run", broken, *runner)
    assert again.returncode == 0, again.stderr
    for folder in ("shards", "outcomes"):
        assert tree(tmp_path / "broken", folder) == tree(data / "whole", folder)
    assert left == {path: path.stat().st_mtime_ns for path in left}
    assert not list((tmp_path / "broken").rglob("*.partial"))
    log = [json.loads(line) for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    done = Counter((event["partition"], event["stage"]) for event in log if event["event"] == "committed")
    assert max(done.values()) == 1
