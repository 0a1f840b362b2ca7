"""`editmill ablate`: arms that differ in the loss's weights alone, and a sweep that goes on where it was killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from jobs.ablation.ablation import run_ablation
from jobs.ablation.config import AblationConfig
from jobs.ablation.mask_quality import check_same_samples, mask_agreement
from jobs.ablation.prepare import pack_data
from jobs.ablation.runs import all_runs
from schemas.config import parse_config, read_yaml
from schemas.errors import ConfigError

PLAIN: dict[str, Any] = {
    "name": "weights",
    "train": {"steps": 2, "data": {"shards": ["a"]}, "stage": "full", "validation": {"shards": ["b"]}},
}


def config(**changes: Any) -> AblationConfig:
    return parse_config(AblationConfig, {**PLAIN, **changes}, "test")


def test_the_standard_arms_are_every_function_raw_and_renormalised():
    arms = config().all_arms()
    assert list(arms)[:2] == ["uniform", "constant"] and len(arms) == 10
    assert arms["exponential_root"].weighting["max_weight"] == 64.0
    assert arms["linear_per_sample"].weighting == {"function": "linear", "normalise": "per_sample"}


def test_runs_differ_in_seed_and_weights_alone():
    runs = all_runs(config(model="m"), {}, {"logarithmic": 1.4})
    assert len(runs) == 30
    for run in runs:
        same = {name: value for name, value in run.config.identity().items() if not name.startswith("weighting.")}
        first = {name: value for name, value in runs[0].config.identity().items() if not name.startswith("weighting.")}
        assert {name for name in same if same[name] != first[name]} <= {"seed"}
        assert run.config.seed == run.seed
    constant = next(run for run in runs if run.arm == "constant")
    assert constant.config.weighting.function == "uniform" and constant.config.weighting.scale == 1.4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"arms": {"Bad-Name": {}}}, "lower-case"),
        ({"train": {**PLAIN["train"], "seed": 3}}, "must not hold 'seed'"),
        ({"standard_arms": False}, "at least two"),
        ({"arms": {"odd": {"scale_as": "none_such"}}}, "must be another arm"),
        ({"seeds": [1, 1]}, "each once"),
        ({"primary": {"area_bins": ["huge"]}}, "must be of under_1"),
    ],
)
def test_a_wrong_ablation_is_one_clear_error(changes: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=told):
        config(**changes)


def test_an_ablation_that_measures_nothing_is_refused_before_anything_is_made():
    train = {"steps": 2, "data": {"shards": ["a"]}, "stage": "full"}
    with pytest.raises(ConfigError, match=r"train\.validation"):
        all_runs(config(train=train, model="m"), {}, {"logarithmic": 1.0})
    off = {**PLAIN["train"], "ema": {"enabled": False}}
    with pytest.raises(ConfigError, match=r"primary\.weights"):
        all_runs(config(train=off, model="m"), {}, {"logarithmic": 1.0})


def test_the_configs_that_come_along_are_valid():
    paths = sorted((Path(__file__).parents[2] / "configs" / "ablation").glob("*.yaml"))
    assert paths
    for path in paths:
        ablation = parse_config(AblationConfig, read_yaml(path), str(path))
        shards = {name: Path("shards") / name for name in ablation.data}
        runs = all_runs(ablation, shards, {"logarithmic": 1.4})
        assert len(ablation.seeds) >= 3 and len(runs) == len(ablation.all_arms()) * len(ablation.seeds)


def pairs(photographs: Path, count: int, seed: int, step: dict[str, Any]) -> dict[str, Any]:
    """A pipeline of `data`."""
    lessons = {"count": count, "side": 64, "seed": seed, "folder": str(photographs), "degradation": "jpeg75"}
    return {"source": {"lessons": lessons}, "steps": [step]}


def small(folder: Path, photographs: Path) -> dict[str, Any]:
    """Two arms under three names, one of them on masks that were found, one seed, three steps."""
    statuses = ["ok", "global", "unchanged", "too_small", "misaligned"]
    return {
        "name": "small",
        "output": str(folder),
        "data": {
            "train": pairs(photographs, 20, 0, {"declared_masks": {}}),
            "found": pairs(photographs, 20, 0, {"masks": {"recipe": "seed", "keep_statuses": statuses}}),
            "held_out": pairs(photographs, 10, 1, {"declared_masks": {}}),
        },
        "learner": {"width": 32, "double_blocks": 1, "single_blocks": 1, "vae_steps": 2},
        "cache": "features",
        "train": {
            "stage": "full",
            "data": {"resolution": 64, "buckets": "square", "mask_statuses": statuses},
            "steps": 3,
            "batch_size": 4,
            "optimizer": {"learning_rate": 0.002},
            "engine": {"zero_stage": 0, "dtype": "float32"},
            "validation": {
                "samples": 10, "other_instructions": 4, "edits": 5, "sampling_steps": 1, "subsets": ["train"]
            },
        },
        "standard_arms": False,
        "arms": {
            "logarithmic": {"weighting": {"function": "logarithmic"}},
            "again": {"weighting": {"function": "logarithmic"}},
            "scaled": {"weighting": {"function": "linear"}, "scale_as": "logarithmic", "data": "found"},
        },
        "seeds": [0],
        "replicates": 400,
        "at_once": 2,
    }  # fmt: skip


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with one picture."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((160, 120)).save(folder / "one.png")
    return folder


def test_arms_on_other_samples_are_refused_before_anything_is_trained(tmp_path: Path, photographs: Path):
    values = small(tmp_path / "run", photographs)
    values["data"]["found"]["source"]["lessons"]["count"] = 18
    ablation = parse_config(AblationConfig, values, "test")
    shards = pack_data(ablation, lambda told: None)
    runs = all_runs(ablation, shards, {"logarithmic": 1.4})
    with pytest.raises(ConfigError, match=r"data\.found = '18 samples': must hold the same samples as data\.train"):
        check_same_samples(ablation, runs)


def test_masks_are_held_against_those_of_train(tmp_path: Path, photographs: Path):
    ablation = parse_config(AblationConfig, small(tmp_path / "run", photographs), "test")
    shards = pack_data(ablation, lambda told: None)
    runs = all_runs(ablation, shards, {"logarithmic": 1.4})
    check_same_samples(ablation, runs)
    (found,) = mask_agreement(ablation, runs).values()
    assert found.arms == ("scaled",) and set(found.overlap) == {"under_1", "1_to_5", "5_to_20", "over_20", "global"}
    # Plain difference takes JPEG's traces for edits: least where there is least to edit.
    assert all(0.0 <= value <= 1.0 for value in found.overlap.values())
    assert found.overlap["under_1"] < found.overlap["over_20"] and found.size["under_1"] > 2.0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_killed_and_started_again_gives_the_bytes_of_one_that_was_not(tmp_path: Path, photographs: Path):
    values = small(tmp_path / "whole", photographs)
    whole = _ablate(values, tmp_path)
    values["output"] = str(tmp_path / "killed")
    process = _started(values, tmp_path)
    first = tmp_path / "killed" / "runs" / "logarithmic" / "seed-0" / "export"
    deadline = time.monotonic() + 900
    while not first.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = first.stat().st_mtime_ns
    killed = _ablate(values, tmp_path)
    assert first.stat().st_mtime_ns == done, "a run that was done was trained again"
    for name in ("ablation.parquet", "other_instruction.parquet", "edits.parquet", "tables.md"):
        assert _digest(killed / name) == _digest(whole / name), name
    rows = pq.read_table(whole / "ablation.parquet").to_pylist()
    by_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in values["arms"]}
    assert [len(found) for found in by_arm.values()] == [10 * 9 * 2] * 3
    without = [[{**row, "arm": ""} for row in by_arm[arm]] for arm in ("logarithmic", "again", "scaled")]
    assert without[0] == without[1] and without[0] != without[2]
    page = (whole / "report.html").read_text()
    assert "None of the" in page and "are one arm under two names, and do not differ" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", ""), "the page is not whole without a network"
    changed = {**values, "train": {**values["train"], "batch_size": 2}}
    with pytest.raises(ConfigError, match="batch_size"):
        run_ablation(parse_config(AblationConfig, changed, "test"), _silent(), only_report=True)


def _ablate(values: dict[str, Any], folder: Path) -> Path:
    process = _started(values, folder)
    said = process.communicate(timeout=900)[0]
    assert process.returncode == 0, said
    return Path(values["output"])


def _started(values: dict[str, Any], folder: Path) -> subprocess.Popen[str]:
    path = folder / "ablation.yaml"
    path.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "jobs", "ablate", str(path)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _silent() -> Any:
    from rich.console import Console

    return Console(quiet=True)
