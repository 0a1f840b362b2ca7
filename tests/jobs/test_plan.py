"""`editmill plan`: what a probe says of the whole job, and how far it was off."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pair_files import editmill, write_config, write_pairs
from typer.testing import CliRunner

from jobs.build import build_chain
from jobs.cli import app
from jobs.config import PipelineConfig
from jobs.planning.forecast import StageProbe, forecast, wilson
from jobs.planning.room import check_room
from pipelines.vlm.answered_before import AnsweredBefore
from schemas.config import parse_config, read_yaml
from schemas.errors import OutputError


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_interval_holds_the_share_and_stays_in_0_to_1(trials: int, share: float) -> None:
    successes = round(share * trials)
    low, high = wilson(successes, trials)
    assert 0.0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1.0
    assert high - low < 2 / trials**0.5


def test_rates_are_carried_over_to_all_rows() -> None:
    probes = [
        StageProbe("source", 100, 80, Counter({"image_missing": 20}), 1.0, 0.0, 0.0, written=50),
        StageProbe("model", 80, 60, Counter({"bad": 20}), 8.0, 5.0, 0.5, written=6_000, written_beside=100),
        StageProbe("pack", 60, 60, Counter(), 1.0, 0.0, 0.0, written=7_000),
    ]
    expected = forecast(probes, 1000.0, 5, 2, core_hour_price=1.0, gpu_hour_price=2.0)
    assert (expected.kept, expected.run_bytes, expected.shard_bytes) == (600.0, 61_000.0, 70_000.0)
    assert expected.seconds == pytest.approx((10 + 80 + 10) / 2 + 5)
    assert expected.gpu_hours == pytest.approx(40 / 3600)
    assert expected.money == pytest.approx(100 / 3600 + 2 * 40 / 3600)
    assert [sum(stage.rejected.values()) + stage.kept for stage in expected.stages] == [
        stage.rows_in for stage in expected.stages
    ]


def test_a_probe_of_every_row_is_exact_and_the_job_says_by_how_much_the_plan_was_off(tmp_path: Path) -> None:
    config = write_config(tmp_path / "job.yaml", write_pairs(tmp_path / "pairs"))
    planned = editmill("plan", config, "--rows", 100, "--json")
    assert planned.returncode == 0, planned.stderr
    expected = json.loads(planned.stdout)
    assert sorted(path.name for path in (tmp_path / "job").iterdir()) == ["plan.json"]
    ran = editmill("run", config)
    assert ran.returncode == 0, ran.stderr
    manifest = json.loads((tmp_path / "job" / "manifest.json").read_text())
    for stage, entry in zip(expected["stages"], [*manifest["stages"], manifest["pack"]], strict=True):
        assert (stage["rows_in"], stage["kept"]) == (entry["rows_in"], entry["kept"])
        assert stage["rejected"] == entry["rejected"]
    assert expected["kept_low"] <= manifest["stages"][-1]["kept"] <= expected["kept_high"]
    assert "plan: rows kept: planned" in ran.stdout
    events = [json.loads(line) for line in (tmp_path / "job" / "log.jsonl").read_text().splitlines()]
    off = {event["quantity"]: event for event in events if event["event"] == "plan_was_off"}
    assert off["rows in"]["planned"] == off["rows in"]["actual"] == 12
    shards = sum(path.stat().st_size for path in (tmp_path / "job" / "shards").glob("*/*"))
    assert off["MiB of shards"]["actual"] * 2**20 == pytest.approx(shards, rel=0.05)
    assert off["MiB of shards"]["planned"] == pytest.approx(off["MiB of shards"]["actual"], rel=0.2)
    page = (tmp_path / "job" / "report.html").read_text()
    assert all(text in page for text in ("What the plan said", "MiB of shards", "rows per core second"))
    assert {"core-hours", "seconds", "MiB in the run folder"} <= off.keys()


def test_a_step_that_asks_vllm_is_passed_over_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnsweredBefore, "preflight", lambda self: None)
    pairs = write_pairs(tmp_path / "pairs")
    steps = [{"judge": {"backend": {"kind": "vllm", "model": "org/model"}}}, {"masks": {}}]
    values = {
        "name": "job",
        "output": str(tmp_path / "job"),
        "source": {"edit_pairs_jsonl": {"path": str(pairs)}},
        "steps": steps,
        "runner": {"kind": "ray"},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
    told = CliRunner().invoke(app, ["plan", str(tmp_path / "job.yaml")], catch_exceptions=False)
    assert "judge: not tried" in told.output
    as_json = CliRunner().invoke(app, ["plan", str(tmp_path / "job.yaml"), "--json"], catch_exceptions=False)
    source, judge, masks = json.loads(as_json.output)["stages"]
    assert (source["tried"], judge["tried"], masks["tried"]) == (True, False, True)
    assert judge["kept"] == judge["rows_in"] == source["kept"] and masks["seconds"] > 0


def test_what_is_wrong_is_told_before_anything_is_read(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "notes.txt").write_text("mine")
    said = editmill("plan", write_config(tmp_path / "job.yaml", pairs))
    assert said.returncode == 2
    assert "output" in said.stderr
    missing = write_config(tmp_path / "other.yaml", pairs, source={"edit_pairs_jsonl": {"path": "nowhere"}})
    assert editmill("plan", missing).returncode == 2


def test_a_disk_too_small_for_the_plan_is_told_before_work(tmp_path: Path) -> None:
    config = write_config(tmp_path / "job.yaml", write_pairs(tmp_path / "pairs"))
    assert editmill("plan", config, "--rows", 100).returncode == 0
    path = tmp_path / "job" / "plan.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({**plan, "shard_bytes": 2.0**60}))
    for options in ([], ["--check"]):
        said = editmill("run", config, *options)
        assert said.returncode == 2
        assert "the plan expects to write" in said.stderr
    assert not (tmp_path / "job" / "steps").exists()


def test_what_earlier_starts_wrote_needs_no_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path / "job.yaml", write_pairs(tmp_path / "pairs"), pack=None)
    assert editmill("plan", path, "--rows", 100).returncode == 0
    config = parse_config(PipelineConfig, read_yaml(path), "job.yaml")
    plan = build_chain(config, "job.yaml").plan
    expected = json.loads((tmp_path / "job" / "plan.json").read_text())["run_bytes"]
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=0.9 * expected))
    with pytest.raises(OutputError, match="the plan expects to write"):
        check_room(config, plan)
    assert editmill("run", path).returncode == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=0.3 * expected))
    check_room(config, plan)


def test_what_the_metadata_tell_is_what_reading_comes_to(tmp_path: Path) -> None:
    scores = np.linspace(1, 9, 1000, dtype=np.float32)
    names = [f"http://host/{number}.jpg" for number in range(1000)]
    table = pa.table({"URL": names, "TEXT": names, "AESTHETIC_SCORE": scores, "unused": names})
    pq.write_table(table, tmp_path / "laion.parquet", row_group_size=100)
    values = {
        "name": "job",
        "output": str(tmp_path / "job"),
        "source": {"laion_parquet": {"paths": [str(tmp_path / "laion.parquet")], "min_aesthetic": 6}},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
    told = CliRunner().invoke(app, ["plan", str(tmp_path / "job.yaml"), "--json"], catch_exceptions=False)
    outlook = json.loads(told.output)["outlook"]
    assert CliRunner().invoke(app, ["run", str(tmp_path / "job.yaml")], catch_exceptions=False).exit_code == 0
    figures = json.loads((tmp_path / "job" / "manifest.json").read_text())["stages"][0]["figures"]
    assert figures["row_groups_skipped"] == 6
    assert {name: outlook[name] for name in figures} == figures
    assert 0 < outlook["bytes_to_read"] < 0.45 * outlook["bytes"]
