"""Whole runs of the real trainer, in this process: DeepSpeed, tiny model, packed shards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import changed, config_for, edit_row, pack_rows, spoil

from schemas.errors import ConfigError, EditmillError, InputError
from trainer.checkpoints.checkpoint import complete_checkpoints
from trainer.checkpoints.ema import ShardedEma, decay_at
from trainer.config import TrainConfig
from trainer.data.loader import micro_batches
from trainer.data.training_data import open_data
from trainer.errors import TrainingStopped
from trainer.measures.throughput import MEASURED
from trainer.signals import STOP_FILE
from trainer.train import main, train
from unified_model.codec import LatentCodec
from unified_model.loading import load_for_inference
from unified_model.model import UnifiedEditModel
from unified_model.pipeline import UnifiedEditPipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


def log(config: TrainConfig) -> list[dict[str, Any]]:
    """The run's log without the time it took."""
    lines = [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def exported(config: TrainConfig, which: str) -> dict[str, torch.Tensor]:
    folder = Path(config.output) / "export" / which
    weights = {}
    for file in sorted(folder.rglob("*.safetensors")):
        weights.update({f"{file.parent.name}/{name}": value for name, value in load_file(file).items()})
    return weights


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class Killed(BaseException):
    """Stands for a death at which nothing is saved."""


@pytest.mark.parametrize("changes", [
    {"engine": {"zero_stage": 0}, "weighting": {"normalise": "per_sample"}},
    {"engine": {"zero_stage": 1, "dtype": "bfloat16"}},
    {"engine": {"zero_stage": 2}, "gradient_accumulation": 2},
    {"engine": {"zero_stage": 0, "dtype": "bfloat16"}, "stage": "lora"},
    {"engine": {"zero_stage": 2, "dtype": "bfloat16", "accumulate_in_float32": True}},
    {"engine": {"zero_stage": 2, "offload_optimizer": True}, "ema": {"device": "cpu"}},
    {"optimizer": {"name": "adamw_8bit", "minimum_8bit_size": 64}, "engine": {"zero_stage": 2}},
    {"optimizer": {"name": "prodigy", "learning_rate": 1.0}, "engine": {"zero_stage": 0}},
    {"engine": {"zero_stage": 3, "dtype": "bfloat16"}, "weighting": {"normalise": "per_batch"}},
])  # fmt: skip
def test_resumed_is_unbroken_to_the_last_bit(
    tiny_model: Path, shards: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    unbroken = config_for(tiny_model, shards, tmp_path / "unbroken", steps=7, checkpoints={"every": 3}, **changes)
    broken = unbroken.model_copy(update={"output": str(tmp_path / "broken")})
    train(unbroken)

    def die(record: dict[str, Any]) -> None:
        if record["step"] == 5:
            raise Killed

    with pytest.raises(Killed):
        train(broken, on_step=die)
    assert [line["step"] for line in log(broken)] == [1, 2, 3, 4, 5]
    result = train(broken)
    assert result.finished and result.step == 7
    assert log(broken) == log(unbroken)
    for which in ("raw", "ema"):
        assert same(exported(broken, which), exported(unbroken, which))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGUSR1, "file"])
def test_asked_to_stop_saves_and_the_run_goes_on(
    tiny_model: Path, shards: Path, tmp_path: Path, how: signal.Signals | str
) -> None:
    unbroken = config_for(tiny_model, shards, tmp_path / "unbroken", checkpoints={"every": 100})
    stopped = unbroken.model_copy(update={"output": str(tmp_path / "stopped")})
    train(unbroken)

    def terminate(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            if isinstance(how, signal.Signals):
                os.kill(os.getpid(), how)
            else:
                (tmp_path / "stopped" / STOP_FILE).touch()

    result = train(stopped, on_step=terminate)
    assert not result.finished and result.step == 3
    assert result.checkpoint == Path(stopped.output) / "checkpoints" / "step-000003"
    assert train(stopped).finished
    assert log(stopped) == log(unbroken)


@pytest.mark.timeout(300)
def test_signals_to_all_processes_of_a_rank_leave_the_loader_s_alone(
    tiny_model: Path, shards: Path, tmp_path: Path
) -> None:
    """As torchrun and Slurm send them."""
    config = config_for(
        tiny_model, shards, tmp_path / "run", steps=10**6, checkpoints={"every": 10**6}, data={"workers": 1}
    )
    (tmp_path / "train.yaml").write_text(json.dumps(config.as_json()))
    command = [sys.executable, "-m", "trainer.train", str(tmp_path / "train.yaml"), "--unfinished-code", "75"]
    said = tmp_path / "stderr"
    rank = subprocess.Popen(command, start_new_session=True, stderr=said.open("wb"))
    lines, deadline = tmp_path / "run" / "log.jsonl", time.monotonic() + 200
    try:
        while not lines.is_file() or not lines.read_text():
            assert rank.poll() is None and time.monotonic() < deadline, said.read_text()
            time.sleep(0.05)
        for number in (signal.SIGUSR1, signal.SIGTERM):
            os.killpg(rank.pid, number)
        assert rank.wait(timeout=240) == 75, said.read_text()
    finally:
        rank.kill()
    assert len(complete_checkpoints(tmp_path / "run")) == 1


def test_a_scheduler_is_told_that_a_run_is_not_finished(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", steps=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "train.yaml").write_text(json.dumps(config.as_json()))
    command = [str(tmp_path / "train.yaml"), "--unfinished-code", "75"]
    (tmp_path / "run" / STOP_FILE).touch()
    assert main(command) == 75
    assert main(command) == 0


def test_a_finished_run_does_nothing_and_another_config_is_refused(
    tiny_model: Path, shards: Path, tmp_path: Path
) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", steps=3, checkpoints={"every": 1, "keep_last": 2})
    assert train(config).finished
    assert [path.name for path in complete_checkpoints(tmp_path / "run")] == ["step-000002", "step-000003"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert train(config).already_finished
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == files
    with pytest.raises(ConfigError, match="learning_rate"):
        train(changed(config, optimizer={"learning_rate": 1.0}))
    longer = train(config.model_copy(update={"steps": 4}))
    assert longer.step == 4 and not longer.already_finished
    assert train(changed(config, optimizer={"learning_rate": 1e-4}), restart=True).step == 3
    assert len(log(config)) == 3


def test_a_run_does_not_go_on_with_other_samples_under_the_same_path(tiny_model: Path, tmp_path: Path) -> None:
    packed = pack_rows(tmp_path / "packed", [edit_row(number) for number in range(4)])
    config = config_for(tiny_model, packed, tmp_path / "run", steps=1)
    assert train(config).finished
    shutil.rmtree(packed)
    pack_rows(packed, [edit_row(number) for number in range(5)])
    with pytest.raises(ConfigError, match="hold other samples than when the run was begun"):
        train(config.model_copy(update={"steps": 2}))


def test_a_half_written_checkpoint_is_not_taken(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", steps=2)
    torn = tmp_path / "run" / "checkpoints" / ".step-000002.partial"
    torn.mkdir(parents=True)
    (torn / "rank-00000.pt").write_bytes(b"half")
    assert train(config).step == 2
    assert not torn.exists()


def test_the_export_edits_an_image_and_only_trainables_moved(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", stage="align", steps=3, ema={"enabled": True})
    result = train(config)
    assert result.export is not None
    start = dict(UnifiedEditModel.from_pretrained(tiny_model).core.named_parameters())
    for which in ("ema", "raw"):
        trained = dict(load_for_inference(result.export, which).core.named_parameters())
        moved = {name for name, value in trained.items() if not torch.equal(value, start[name])}
        assert moved == {name for name in start if name.startswith("conditioner.vlm_connector.")}
    pipeline = UnifiedEditPipeline.from_pretrained(result.export)
    image = pipeline("make it red", [np.zeros((64, 64, 3), np.uint8)], height=64, width=64, steps=1, seed=0)
    assert image.shape == (64, 64, 3)
    next_stage = config_for(result.export, shards, tmp_path / "next", steps=1)
    assert train(next_stage).finished


def test_an_export_of_zero_3_holds_no_whole_core_on_the_device(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", steps=1, engine={"zero_stage": 3})
    seen: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        plain = UnifiedEditModel.save_core

        def save_core(model: UnifiedEditModel, path: Path) -> None:
            for value in model.core.parameters():
                # To DeepSpeed it is in pieces; what is saved lies beside them.
                seen.append(value.ds_status.name == "NOT_AVAILABLE" and value.shape == value.ds_shape)
            plain(model, path)

        patch.setattr(UnifiedEditModel, "save_core", save_core)
        assert train(config).finished
    assert len(seen) > 100 and all(seen)


def test_align_keeps_no_average_unless_asked_and_exports_raw_weights_only(
    tiny_model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", stage="align", steps=1, hardware={"processes": 8})
    assert not config.averages and config_for(tiny_model, shards, tmp_path / "run", stage="edit").averages
    result = train(config)
    said = capsys.readouterr().err
    assert "raw weights only" in said and "planned for 8 processes" in said
    assert result.export is not None and result.checkpoint is not None
    assert [path.name for path in result.export.iterdir()] == ["raw"]
    assert not list(result.checkpoint.glob("ema*"))
    raw = load_for_inference(result.export, "raw").core.state_dict()
    assert same(load_for_inference(result.export).core.state_dict(), raw)
    with pytest.raises(InputError, match="no ema/"):
        load_for_inference(result.export, "ema")


def test_bad_samples_are_skipped_named_and_limited(tiny_model: Path, tmp_path: Path) -> None:
    rows = [edit_row(number) for number in range(8)]
    packed = pack_rows(tmp_path / "packed", rows)
    spoil(packed, rows[0]["key"], "target")
    spoil(packed, rows[1]["key"], "reference")
    config = config_for(tiny_model, packed, tmp_path / "run", batch_size=4, steps=2)
    assert train(config).bad_samples == 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert {line["key"] for line in lines} == {rows[0]["key"], rows[1]["key"]}
    assert sum(line["samples"] for line in log(config)) == 6
    strict = config_for(tiny_model, packed, tmp_path / "strict", batch_size=4, steps=2, data={"max_bad_samples": 1})
    with pytest.raises(TrainingStopped, match="max_bad_samples"):
        train(strict)


def test_a_loss_that_is_not_finite_stops_and_names_the_samples(
    tiny_model: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample's latents become infinite at step 3, as those of a half-precision VAE may."""
    config = config_for(tiny_model, shards, tmp_path / "run", steps=9)
    (poisoned,) = [
        batch
        for batch in micro_batches(
            open_data(config, 1), config, UnifiedEditModel.from_pretrained(tiny_model).processor, 2, 0, 1
        )
        if batch.positions == [4, 5]
    ]
    plain = LatentCodec.encode

    def encode(codec: LatentCodec, pixels: torch.Tensor) -> torch.Tensor:
        latents = plain(codec, pixels)
        own = poisoned.target[1:].float() / 127.5 - 1.0
        latents[(pixels == own).flatten(1).all(dim=1)] = float("inf")
        return latents

    monkeypatch.setattr(LatentCodec, "encode", encode)
    with pytest.raises(TrainingStopped, match="is not finite") as stopped:
        train(config)
    assert stopped.value.field == "loss at step 3"
    assert poisoned.keys[1] in str(stopped.value.rule) and poisoned.shards[1] in str(stopped.value.rule)
    assert poisoned.keys[0] not in str(stopped.value.rule)
    assert len(log(config)) == 2
    monkeypatch.undo()
    assert train(config).finished


def test_a_diverging_run_stops_before_it_is_saved(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(
        tiny_model,
        shards,
        tmp_path / "run",
        optimizer={"learning_rate": 1e30, "clip_norm": 0.0},
        steps=20,
        checkpoints={"every": 20},
    )
    with pytest.raises(TrainingStopped, match="is not finite"):
        train(config)
    assert not complete_checkpoints(tmp_path / "run")


def test_two_runs_never_write_into_one_folder(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", steps=1)
    seen: list[EditmillError] = []

    def again(record: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="another run") as error:
            train(config)
        seen.append(error.value)

    train(config, on_step=again)
    assert seen


def test_the_learning_rate_warms_up_linearly(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(
        tiny_model, shards, tmp_path / "run", steps=4, optimizer={"warmup_steps": 3, "learning_rate": 3e-4}
    )
    train(config)
    assert [line["learning_rate"] for line in log(config)] == pytest.approx([1e-4, 2e-4, 3e-4, 3e-4])


def test_the_average_follows_slowly_and_is_updated_once_a_step(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(
        tiny_model, shards, tmp_path / "run", steps=3, gradient_accumulation=2, checkpoints={"every": 1, "keep_last": 9}
    )
    with pytest.MonkeyPatch.context() as patch:
        calls: list[int] = []
        plain = ShardedEma.update
        patch.setattr(ShardedEma, "update", lambda self: (calls.append(self.updates), plain(self))[1])
        train(config)
    assert calls == [0, 1, 2]
    assert [decay_at(updates, 0.999) for updates in (0, 1, 90)] == [0.1, 2 / 11, 0.91]
    assert decay_at(10**6, 0.999) == 0.999
