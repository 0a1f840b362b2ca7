"""From metadata to images on the command line, and the retry of exactly what may go better."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pair_files import editmill
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
from hostile_server import GOOD, Hostile, answer, hostile

from jobs.cli import app
from jobs.config import PipelineConfig
from jobs.pipeline import run_pipeline
from jobs.run_manifest import read_run_manifest
from schemas.config import parse_config
from schemas.errors import EditmillError

pytestmark = pytest.mark.timeout(120)
NAMES = ("good", "status_404", "once_500", "html", "dead", "good?2", "noai", "dead?2", "good?3", "good?4")
OPTIONS = ("--allow-network", "127.0.0.0/8", "--set", "circuit_failures=null", "--set", "max_attempts=1")


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile() as running:
        # Dead until it is told otherwise.
        running.extra["dead"] = lambda connection: connection.sendall(answer(b"", "503 Busy"))
        yield running


@dataclass
class Called:
    """What a command came to: as `editmill` as a process of its own, but in this one."""

    returncode: int
    stdout: str
    stderr: str


def called(*arguments: object) -> Called:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, EditmillError):
        return Called(2, result.stdout, str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Called(result.exit_code, result.stdout, result.stderr)


def write_metadata(path: Path, server: Hostile, row_group: int = 3) -> Path:
    urls = [server.url(name) for name in NAMES]
    table = pa.table({"URL": urls, "TEXT": [f"caption {n}" for n in range(len(urls))], "WIDTH": [5] * len(urls)})
    pq.write_table(table, path, row_group_size=row_group)
    return path


def outcomes(folder: Path) -> Counter[str]:
    manifest = read_run_manifest(folder)
    return Counter({reason: rows for stage in manifest.stages for reason, rows in stage.rejected.items()})


def records(folder: Path) -> list[dict[str, Any]]:
    files = [entry.records for entry in read_run_manifest(folder).partitions if entry.records is not None]
    return [row for file in files for row in pq.read_table(folder / file.name).to_pylist()]


def test_fetch_then_retry_exactly_the_failed(server: Hostile, tmp_path: Path) -> None:
    metadata = write_metadata(tmp_path / "laion.parquet", server)
    filtered = called("filter", metadata, "--output", tmp_path / "kept")
    assert filtered.returncode == 0, filtered.stderr
    fetched = editmill("fetch", tmp_path / "kept", "--output", tmp_path / "fetched", *OPTIONS)
    assert fetched.returncode == 0, fetched.stderr
    assert outcomes(tmp_path / "fetched") == {
        "http_404": 1,
        "http_500": 1,
        "image_format_unknown": 1,
        "opted_out": 1,
        "http_503": 2,
    }
    step = read_run_manifest(tmp_path / "fetched").config["steps"][0]["fetch"]
    assert step["circuit_failures"] is None and step["max_attempts"] == 1 and step["deadline_s"] == 30
    rows = records(tmp_path / "fetched")
    assert [row["caption"] for row in rows] == [f"caption {n}" for n in (0, 5, 8, 9)]
    assert all(row["image"]["bytes"] == GOOD and row["width"] == 64 for row in rows)

    asked = len(server.seen)
    again = called("fetch", tmp_path / "kept", "--output", tmp_path / "fetched", *OPTIONS)
    assert "nothing to do" in again.stdout and len(server.seen) == asked

    server.extra.clear()
    server.seen.clear()
    retry = ("retry-failed", tmp_path / "fetched", "--class", "http_5*,timeout", "--output", tmp_path / "again")
    done = called(*retry)
    assert done.returncode == 0, done.stderr
    assert sorted(path for _, path, _ in server.seen) == ["/dead", "/dead?2", "/once_500", "/robots.txt"]
    manifest = read_run_manifest(tmp_path / "again")
    assert [(stage.name, stage.rows_in, stage.kept) for stage in manifest.stages] == [
        ("failed_rows", 3, 3),
        ("fetch", 3, 3),
    ]
    assert [row["caption"] for row in records(tmp_path / "again")] == [f"caption {n}" for n in (2, 4, 7)]
    assert "nothing to do" in called(*retry).stdout

    packed = called(
        "pack",
        tmp_path / "fetched",
        tmp_path / "again",
        "--output",
        tmp_path / "shards",
        "--run-folder",
        tmp_path / "packed",
    )
    assert packed.returncode == 0, packed.stderr
    assert called("validate", tmp_path / "shards").returncode == 0
    assert sum(len(pq.read_table(path)) for path in (tmp_path / "shards" / "parquet").glob("*.parquet")) == 7


def test_a_retry_goes_through_the_later_steps(server: Hostile, tmp_path: Path) -> None:
    metadata = write_metadata(tmp_path / "laion.parquet", server, row_group=2)
    fetch = {"allow_networks": ["127.0.0.0/8"], "circuit_failures": None, "max_attempts": 1, "backoff_s": 0}
    config = {
        "name": "whole",
        "output": tmp_path / "whole",
        "source": {"laion_parquet": {"paths": [str(metadata)], "rows_per_partition": 2}},
        "steps": [{"fetch": fetch}],
        "pack": {"record": "images", "samples_per_shard": 2, "require_caption": False},
    }
    run_pipeline(parse_config(PipelineConfig, config, "test"))
    server.extra.clear()
    done = called("retry-failed", tmp_path / "whole", "--class", "http_503", "--output", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    manifest = read_run_manifest(tmp_path / "again")
    assert manifest.pack is not None and manifest.pack.kept == 2
    assert Path(str(manifest.shards)).resolve() == (tmp_path / "again" / "shards").resolve()


def test_a_retry_of_a_retry(server: Hostile, tmp_path: Path) -> None:
    metadata = write_metadata(tmp_path / "laion.parquet", server)
    assert called("fetch", metadata, "--output", tmp_path / "run0", *OPTIONS).returncode == 0
    for number, (wanted, code) in enumerate([("http_50?", 0), ("http_503", 1), ("http_5*", 0)]):
        if number == 2:
            server.extra.clear()
        arguments = (tmp_path / f"run{number}", "--class", wanted, "--output", tmp_path / f"run{number + 1}")
        done = called("retry-failed", *arguments)
        assert done.returncode == code, done.stderr
    counts = [read_run_manifest(tmp_path / f"run{number}").stages[-1] for number in range(4)]
    assert [(stage.rows_in, stage.kept) for stage in counts] == [(10, 4), (3, 1), (2, 0), (2, 2)]


def test_a_retry_that_cannot_be_is_said_first(server: Hostile, tmp_path: Path) -> None:
    metadata = write_metadata(tmp_path / "laion.parquet", server)
    assert called("fetch", metadata, "--output", tmp_path / "fetched", *OPTIONS).returncode == 0
    asked = len(server.seen)
    for arguments, message in (
        (("--class", "dns"), "Reasons there: http_503 2"),
        (("--class", "http_503", "--step", "masks"), "Its steps: fetch"),
        (("--class", "http_503", "--set", "dedline_s=3"), "Did you mean 'deadline_s'"),
    ):
        done = called("retry-failed", tmp_path / "fetched", "--output", tmp_path / "again", *arguments)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    done = called("retry-failed", tmp_path / "fetched", "--class", "http_503", "--output", tmp_path / "fetched")
    assert done.returncode == 2 and "is the run that is read" in done.stderr
    write_metadata(metadata, server, row_group=4)
    done = called("retry-failed", tmp_path / "fetched", "--class", "http_503", "--output", tmp_path / "again")
    assert done.returncode == 2 and "Restore the input" in done.stderr
    assert len(server.seen) == asked and not (tmp_path / "again").exists()


def test_a_large_row_group_is_fetched_in_pieces(server: Hostile, tmp_path: Path) -> None:
    urls = [server.url(f"good?{number}") for number in range(50)]
    pq.write_table(pa.table({"url": urls}), tmp_path / "large.parquet", row_group_size=50)
    arguments = (tmp_path / "large.parquet", "--output", tmp_path / "run", "--rows-per-partition", "10", *OPTIONS)
    assert called("fetch", *arguments).returncode == 0
    assert len(read_run_manifest(tmp_path / "run").partitions) >= 5
    assert [row["url"] for row in records(tmp_path / "run")] == urls


@pytest.mark.slow
def test_on_ray_the_same_records(server: Hostile, tmp_path: Path) -> None:
    metadata = write_metadata(tmp_path / "laion.parquet", server)
    fetch = {"allow_networks": ["127.0.0.0/8"], "circuit_failures": None, "max_attempts": 1}
    found = []
    for kind in ("in_process", "ray"):
        server.asked.clear()
        config = {
            "name": kind,
            "output": tmp_path / kind,
            "source": {"laion_parquet": {"paths": [str(metadata)], "rows_per_partition": 3}},
            "steps": [{"fetch": fetch}],
            "runner": {"kind": "ray", "workers": 2, "object_store_mib": 200} if kind == "ray" else {},
        }
        run_pipeline(parse_config(PipelineConfig, config, "test"))
        found.append((records(tmp_path / kind), outcomes(tmp_path / kind)))
    assert found[0] == found[1]


def test_an_unfinished_run_is_no_source(tmp_path: Path) -> None:
    config = {
        "name": "x",
        "output": tmp_path / "x",
        "source": {"failed_rows": {"path": str(tmp_path / "none"), "reasons": ["dns"]}},
        "steps": [{"fetch": {}}],
    }
    with pytest.raises(EditmillError, match=r"has no manifest\.json"):
        run_pipeline(parse_config(PipelineConfig, config, "test"))
