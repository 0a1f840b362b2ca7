"""Going on: on another number of ranks and another ZeRO stage, with another model, after a full disk."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from start_ranks import run_ranks
from training_data import changed, config_for

from schemas.errors import ConfigError, InputError, OutputError
from trainer.checkpoints.checkpoint import complete_checkpoints, read_progress
from trainer.checkpoints.model_files import model_files
from trainer.config import TrainConfig
from trainer.measures.throughput import MEASURED
from trainer.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


def log(config: TrainConfig) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def names(config: TrainConfig) -> list[str]:
    return [folder.name for folder in complete_checkpoints(Path(config.output))]


def test_two_ranks_then_one_then_two_train_as_one_throughout(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    """2 -> 1 -> 2 ranks at ZeRO 2, 1 and 3, with the same global batch of four."""
    alone = config_for(
        tiny_model, shards, tmp_path / "alone", steps=6, batch_size=2, gradient_accumulation=2, engine={"zero_stage": 1}
    )
    moved = changed(alone, output=str(tmp_path / "moved"))
    run_ranks(
        [{**changed(moved, batch_size=1, engine={"zero_stage": 2}).as_json(), "sigterm_at": 2}], tmp_path / "first"
    )
    assert len(log(moved)) == 2
    with pytest.raises(ConfigError, match="say gradient_accumulation=2"):
        train(changed(moved, gradient_accumulation=3))
    train(moved, on_step=lambda record: os.kill(os.getpid(), 15) if record["step"] == 4 else None)
    assert len(log(moved)) == 4
    # ZeRO-3 in processes of its own: it changes torch's linear layer for the rest of a process.
    run_ranks([changed(moved, batch_size=1, engine={"zero_stage": 3}).as_json()], tmp_path / "second")
    train(alone)
    assert read_progress(complete_checkpoints(tmp_path / "moved")[-1]).ranks == 2
    for ours, theirs in zip(log(moved), log(alone), strict=True):
        assert ours["keys"] == theirs["keys"]
        for name in ("loss", "loss_unweighted", "loss_inside", "loss_outside", "gradient_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=2e-5), (ours["step"], name)
    for which in ("raw", "ema"):
        for file in sorted((tmp_path / "alone" / "export" / which).rglob("*.safetensors")):
            others = load_file(tmp_path / "moved" / file.relative_to(tmp_path / "alone"))
            for name, value in load_file(file).items():
                torch.testing.assert_close(others[name], value, rtol=0, atol=1e-4)


def test_frozen_weights_are_known_by_content(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = config_for(model, shards, tmp_path / "run", steps=1, stage="align")
    train(config)
    (checkpoint,) = complete_checkpoints(tmp_path / "run")
    assert sum(file.stat().st_size for file in checkpoint.iterdir()) < 24_832 * 13 + 200_000
    assert {name.partition("/")[0] for name in read_progress(checkpoint).model} >= {
        "vlm",
        "siglip",
        "vae",
        "transformer",
    }
    moved = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    assert train(config.model_copy(update={"model": str(moved), "steps": 2})).step == 2
    (weights,) = (moved / "vae").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(InputError, match=f"vae/{weights.name} has another content") as refused:
        train(config.model_copy(update={"model": str(moved), "steps": 3}))
    assert refused.value.field == "model"
    assert train(config.model_copy(update={"steps": 3})).step == 3


def test_an_adapter_s_run_names_the_files_of_all_it_came_from(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    result = train(config_for(tiny_model, shards, tmp_path / "run", steps=1, stage="lora"))
    base, files = model_files(str(tiny_model)), model_files(str(result.export))
    assert {name for name in files if name not in base} == {
        f"adapter-0/{path.name}" for path in (tmp_path / "run" / "export" / "ema" / "adapter").iterdir()
    }
    assert all(files[name] == base[name] for name in base if name.startswith(("vlm/", "transformer/")))


def test_a_full_disk_names_the_checkpoint_and_leaves_the_earlier_ones(
    tiny_model: Path, shards: Path, tmp_path: Path
) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", steps=6)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(record: dict[str, Any]) -> None:
        """No file may grow beyond this from step 4 on, as though the disk were full."""
        if record["step"] == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))

    try:
        with pytest.raises(OutputError, match="goes on from step-000002") as full:
            train(config, on_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.value.field == "checkpoint" and str(full.value.value).endswith("step-000004")
    assert names(config) == ["step-000002"]
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    assert train(config).finished and len(log(config)) == 6


def test_the_best_checkpoint_stays(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    checks = {"shards": [str(shards)], "every": 1, "samples": 2, "edits": 0, "loss_weights": ["raw"]}
    best = {"every": 3, "keep_last": 1, "best_metric": "raw/loss", "best_is": "higher"}
    config = config_for(tiny_model, shards, tmp_path / "run", steps=6, validation=checks, checkpoints=best)
    train(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "validation.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["raw/loss"] for line in lines if line["step"]}
    top = max(losses, key=lambda step: losses[step])
    assert names(config) == [f"step-{step:06d}" for step in sorted({top, 6})]
    assert read_progress(complete_checkpoints(tmp_path / "run")[-1]).validation["raw/loss"] == losses[6]
    unknown = changed(config, output=str(tmp_path / "other"), checkpoints={"best_metric": "raw/los"})
    with pytest.raises(ConfigError, match=r"Known: .*raw/loss"):
        train(unknown)
