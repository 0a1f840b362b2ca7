"""The error budget: too many rows rejected for one reason stop a job, and what was done stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pair_files import editmill, write_config, write_pairs

from jobs.budget import BudgetSection, over_budget


@pytest.mark.parametrize("runner", ["in_process", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_job_stops_with_the_evidence_and_goes_on_with_a_larger_budget(tmp_path: Path, runner: str) -> None:
    pairs = write_pairs(tmp_path / "pairs", count=40)
    config = write_config(tmp_path / "job.yaml", pairs, budget={"reasons": {"unchanged": 0.1}, "least_rows": 12})
    stopped = editmill("run", config, "--runner", runner)
    assert stopped.returncode == 2
    assert "budget.reasons.unchanged of step 'masks'" in stopped.stderr
    assert "mask status 'unchanged' by recipe 'seed'" in stopped.stderr
    commits = {path: path.stat().st_mtime_ns for path in (tmp_path / "job" / "steps" / "01-masks").glob("*.json")}
    assert len(commits) >= 6
    events = [json.loads(line) for line in (tmp_path / "job" / "log.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "run_fails"

    config = write_config(tmp_path / "job.yaml", pairs, budget={"reasons": {"unchanged": 0.3}, "least_rows": 12})
    finished = editmill("run", config, "--runner", runner)
    assert finished.returncode == 0, finished.stderr
    assert commits == {path: path.stat().st_mtime_ns for path in commits}


def test_a_share_out_of_range_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path / "job.yaml", write_pairs(tmp_path / "pairs"), budget={"reasons": {"timeout": 20}})
    said = editmill("run", config)
    assert said.returncode == 2
    assert "the share of 'timeout' must be from 0 to 1" in said.stderr


@pytest.mark.parametrize("runner", ["in_process", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_job_stops_before_a_step_that_waits_for_all_rows(tmp_path: Path, runner: str) -> None:
    pairs = write_pairs(tmp_path / "pairs", count=60)
    steps = [{"masks": {"recipe": "seed"}}, "perceptual_hash", {"deduplicate": {}}]
    budget = {"reasons": {"unch*": 0.1, "image_*": 0.5}, "least_rows": 12}
    config = write_config(tmp_path / "job.yaml", pairs, steps=steps, budget=budget)
    stopped = editmill("run", config, "--runner", runner)
    assert stopped.returncode == 2
    assert "budget.reasons.unch* of step 'masks'" in stopped.stderr
    assert "mask status 'unchanged' by recipe 'seed'" in stopped.stderr
    events = [json.loads(line) for line in (tmp_path / "job" / "log.jsonl").read_text().splitlines()]
    masked = [event for event in events if event["event"] == "committed" and event["stage"] == "masks"]
    assert 6 <= len(masked) < 30, "it stops once it knows, not when all rows have come"


@given(
    st.dictionaries(st.sampled_from(["http_404", "http_500", "http_503", "timeout"]), st.integers(0, 60), max_size=4)
)
def test_a_pattern_counts_all_reasons_that_it_fits(rejected: dict[str, int]) -> None:
    budget = BudgetSection(reasons={"http_5*": 0.5}, least_rows=1)
    stages = [{"name": "fetch", "rows_in": 100, "rejected": rejected}]
    fitting = rejected.get("http_500", 0) + rejected.get("http_503", 0)
    assert over_budget(budget, stages) == ((0, "http_5*") if fitting > 50 else None)
    assert over_budget(budget.model_copy(update={"least_rows": 101}), stages) is None
