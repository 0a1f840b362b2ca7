"""`editmill train`: wrong calls, before anything heavy starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.commands.options import size_in_bytes
from schemas.config import read_yaml
from schemas.errors import ConfigError, EditmillError, InputError
from trainer.config import load_train_config
from trainer.train import parse_changes

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


def test_the_configs_that_come_along_are_valid_and_commented() -> None:
    files = {path.stem: path for path in CONFIGS.glob("*.yaml")}
    assert set(files) == {"tiny-cpu", "align-h200", "edit-h200", "edit-8xh100", "lora-24gb"}
    configs = {name: load_train_config(path) for name, path in files.items()}
    assert {name: config.stage for name, config in configs.items()} == {
        "tiny-cpu": "edit",
        "align-h200": "align",
        "edit-h200": "edit",
        "edit-8xh100": "edit",
        "lora-24gb": "lora",
    }
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        assert text.count("#") >= 10 or name == "tiny-cpu"
        # What people copy from the comments is what there is.
        assert f"configs/train/{name}.yaml" in text


def dotted(values: dict[str, Any], prefix: str = "") -> set[str]:
    keys = set()
    for name, value in values.items():
        keys |= dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}"}
    return keys


def test_the_full_config_names_every_key() -> None:
    values = read_yaml(CONFIGS / "edit-8xh100.yaml")
    assert dotted(values) == dotted(load_train_config(CONFIGS / "edit-8xh100.yaml").as_json())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer.learning_rat=1", "Did you mean 'learning_rate'"),
        ("data.resolution=500", "multiple of 16"),
        ("weighting.function=cubic", "must be one of uniform"),
        ("weighting.function=exponential_root", "needs a cap"),
        ("stage=both", "must be one of align, edit"),
        ("ema.decay=1.0", "less than 1"),
        ("steps.count=3", "holds no mapping"),
        ("steps", "must be key=value"),
    ],
)
def test_a_wrong_value_is_one_clear_error(change: str, message: str) -> None:
    result = CliRunner().invoke(app, ["train", str(CONFIGS / "tiny-cpu.yaml"), "--set", change])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


def test_what_belongs_to_ray_needs_it() -> None:
    result = CliRunner().invoke(app, ["train", str(CONFIGS / "tiny-cpu.yaml"), "--workers", "2"])
    assert isinstance(result.exception, ConfigError) and "Add --ray" in str(result.exception)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", str(tmp_path / "none.yaml"), "--processes", "2"])
    assert isinstance(result.exception, InputError)


def test_changes_are_read_as_yaml() -> None:
    changes = parse_changes(["steps=3", "ema.decay=0.5", "data.shards=[a, b]", "output=runs/x=y"])
    assert changes == {"steps": 3, "ema.decay": 0.5, "data.shards": ["a", "b"], "output": "runs/x=y"}
    config = load_train_config(CONFIGS / "tiny-cpu.yaml", changes)
    assert config.ema.decay == 0.5 and config.data.shards == ["a", "b"]
    with pytest.raises(EditmillError):
        parse_changes(["steps=[1"])


def test_help_teaches() -> None:
    shown = CliRunner().invoke(app, ["train", "--help"]).output
    assert "Example" in shown and "editmill train configs/train/edit-8xh100.yaml" in shown


@pytest.mark.slow
def test_a_dry_run_for_many_gpus_needs_none(tmp_path: Path) -> None:
    call = ["train", str(CONFIGS / "edit-8xh100.yaml"), "--dry-run", "--processes", "64", "--nodes", "8"]
    result = CliRunner().invoke(app, [*call, "--set", f"output={tmp_path / 'run'}"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    shown = " ".join(result.output.split())
    for fact in (
        "64 processes on 8 nodes, one H100 each",
        "runs/align/export is not on this machine",
        "4,104,933,632 of 12,060,300,352 in the core (34.0%)",
        "256 samples = 1 x 4 accumulated x 64 processes",
        "a sample is 2,354 tokens",
        "87 TFLOP a sample",
        "Fits into 79.0 GiB",
    ):
        assert fact in shown
    assert max(map(len, result.output.splitlines()[1:])) <= 80
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_that_does_not_fit_is_told_what_to_change() -> None:
    call = ["train", str(CONFIGS / "edit-h200.yaml"), "--dry-run", "--device-memory", "115GiB"]
    result = CliRunner().invoke(app, [*call, "--set", "engine.compile=none"], env={"COLUMNS": "80"})
    assert result.exit_code == 1
    shown = " ".join(result.output.split())
    assert "Does not fit into 115.0 GiB" in shown
    assert "fits optimizer.name=adamw_8bit" in shown and "fits ema.device=cpu" in shown


def test_what_belongs_to_a_dry_run_is_refused_elsewhere() -> None:
    call = ["train", str(CONFIGS / "tiny-cpu.yaml")]
    for option, value in (("--nodes", "2"), ("--device-memory", "80GiB")):
        result = CliRunner().invoke(app, [*call, option, value])
        assert isinstance(result.exception, ConfigError) and "belongs to a dry run" in str(result.exception)
    result = CliRunner().invoke(app, [*call, "--dry-run", "--device-memory", "much"])
    assert isinstance(result.exception, ConfigError) and "Write for example 80GiB" in str(result.exception)


@pytest.mark.parametrize(
    ("text", "size"), [("80GiB", 80 * 2**30), ("24 GB", 24 * 10**9), ("1.5", 3 * 2**29), ("512MiB", 2**29)]
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert size_in_bytes("--device-memory", text) == size
