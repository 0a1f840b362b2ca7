"""TensorBoard and Weights & Biases: what a run tells them."""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_data import changed, config_for

from schemas.errors import ConfigError
from trainer.reporting.boards import check_boards
from trainer.reporting.scalars import GROUPS
from trainer.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


def told_offline(run: Path) -> list[dict[str, Any]]:
    """The history in the files of offline runs below a folder."""
    from wandb.proto import wandb_internal_pb2

    history = []
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for data in leveldb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("history"):
                items = record.history.item
                history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return history


def leveldb_records(data: bytes, header: int = 7, block: int = 32768) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, after a header of wandb's own."""
    place, parts = header, b""
    while place + header <= len(data):
        if block - place % block < header:
            place += block - place % block
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + header])
        parts += data[place + header : place + header + length]
        place += header + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_every_figure_of_a_run_stands_in_a_group(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", steps=2)
    train(config)
    tags = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload().Tags()["scalars"]
    assert {"loss/loss", "loss/loss_inside", "optimizer/learning_rate", "speed/samples_per_second"} <= set(tags)
    assert {tag.partition("/")[0] for tag in tags} <= set(GROUPS), tags


def test_weights_and_biases_offline_has_every_step_and_the_held_out_figures(
    tiny_model: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    validation = {"shards": [str(shards)], "every": 2, "samples": 2, "edits": 1, "sampling_steps": 1}
    board = {"project": "test", "mode": "offline"}
    config = config_for(
        tiny_model, shards, tmp_path / "run", steps=2, logging={"wandb": board, "tensorboard": False},
        validation=validation,
    )  # fmt: skip
    train(config)
    identity = (tmp_path / "run" / "wandb-id.txt").read_text()
    train(changed(config, steps=3))
    assert (tmp_path / "run" / "wandb-id.txt").read_text() == identity
    assert not (tmp_path / "run" / "tensorboard").exists()
    history = told_offline(tmp_path / "run")
    assert [line["step"] for line in history if "loss/loss" in line] == [1, 2, 3]
    assert [line["step"] for line in history if "validation/raw/loss" in line] == [2, 3]
    assert any(key.startswith("edits/00-") for line in history for key in line)
    assert train(changed(config, steps=1), restart=True).finished


def test_a_board_whose_package_is_missing_is_refused_before_anything_starts(
    tiny_model: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", logging={"wandb": {"mode": "offline"}})
    find = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr("trainer.reporting.boards.find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(ConfigError, match=r"pip install"):
        check_boards(config)
    with pytest.raises(ConfigError, match=r"pip install"):
        train(config)
    assert not (tmp_path / "run" / "log.jsonl").exists()
