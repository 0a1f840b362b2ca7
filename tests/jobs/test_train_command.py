"""`editmill train`: wrong calls, before anything heavy starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from schemas.config import read_yaml
from schemas.errors import ConfigError, EditmillError, InputError
from trainer.config import load_train_config
from trainer.train import parse_changes

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


@pytest.mark.parametrize("name", ["tiny-cpu.yaml", "edit-8xh100.yaml"])
def test_the_configs_that_come_along_are_valid(name: str) -> None:
    config = load_train_config(CONFIGS / name)
    assert config.weighting.function == "logarithmic"


def test_the_full_config_names_every_key() -> None:
    values = read_yaml(CONFIGS / "edit-8xh100.yaml")
    assert set(values) == set(load_train_config(CONFIGS / "edit-8xh100.yaml").as_json())


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
