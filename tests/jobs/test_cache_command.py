"""`editmill cache`: killed anywhere and started again, here or on Ray, it ends in the bytes of an unbroken run."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chain_parts import tree
from pair_files import environment
from typer.testing import CliRunner

from jobs.caching.config import CacheConfig
from jobs.caching.job import cache
from jobs.cli import app
from schemas.config import parse_config
from schemas.errors import ConfigError
from unified_model.tiny import build_tiny

sys.path.append(str(Path(__file__).parents[1] / "trainer"))

from training_data import edit_row, pack_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
SHARDS = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_tiny().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [edit_row(number) for number in range(2 * SHARDS)]
    return pack_rows(tmp_path_factory.mktemp("shards") / "packed", rows, per_shard=2)


def arguments(packed: Path, model: Path, *more: str) -> list[str]:
    size = ["--resolution", "64", "--compute", "float32", "--features", "--batch-size", "2"]
    return ["cache", str(packed), "--model", str(model), *size, *more]


def made(packed: Path) -> dict[str, bytes]:
    """Everything that was made, but for the card's note of where the folder lay."""
    [folder] = packed.with_name("packed.cache").iterdir()
    files = tree(folder, "shards") | {"index.parquet": (folder / "index.parquet").read_bytes()}
    card = json.loads((folder / "cache.json").read_text())
    assert card["status"] == "finished" and card["stored"] == card["samples"] == 2 * SHARDS
    return files


@pytest.mark.parametrize("more", [[], ["--runner", "ray", "--workers", "2"]], ids=["here", "ray"])
def test_killed_and_started_again(packed: Path, model: Path, tmp_path: Path, more: list[str]) -> None:
    unbroken = Path(shutil.copytree(packed, tmp_path / "unbroken" / "packed"))
    assert CliRunner().invoke(app, arguments(unbroken, model)).exit_code == 0
    broken = Path(shutil.copytree(packed, tmp_path / "broken" / "packed"))
    call = [sys.executable, "-c", "from jobs.cli import main; main()", *arguments(broken, model, *more)]
    process = subprocess.Popen(call, env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    commits: list[Path] = []
    deadline = time.monotonic() + 240
    while len(commits) < 2 and time.monotonic() < deadline and process.poll() is None:
        commits = list(broken.with_name("packed.cache").glob("*/shards/*.json"))
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.5 if more else 0)
    left = {path: path.stat().st_mtime_ns for path in broken.with_name("packed.cache").glob("*/shards/*.json")}
    assert 2 <= len(left) < SHARDS
    again = subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=150, check=False)
    assert again.returncode == 0, again.stderr
    assert f"{SHARDS - len(left)} of {SHARDS} shards now" in again.stdout
    assert left == {path: path.stat().st_mtime_ns for path in left}
    assert made(broken) == made(unbroken)
    told = CliRunner().invoke(app, arguments(broken, model)).output
    assert "finished before: nothing to do" in told and "24 of 24 samples" in told


def test_what_cannot_be_is_said_first(packed: Path, model: Path) -> None:
    call = ["cache", str(packed), "--model", str(model), "--resolution", "100"]
    with pytest.raises(ConfigError, match="multiple of 16"):
        CliRunner().invoke(app, call, catch_exceptions=False)
    values = {"packed": packed, "model": str(model), "dropped": True}
    with pytest.raises(ConfigError, match="dropped belongs to features"):
        cache(parse_config(CacheConfig, values, "test"))
