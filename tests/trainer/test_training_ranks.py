"""Two processes: the same losses as one, an average equal to an unsharded one, and deaths that cost nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from start_ranks import run_ranks
from training_data import config_for

from trainer.checkpoints.checkpoint import complete_checkpoints, step_of
from trainer.checkpoints.ema import decay_at
from trainer.checkpoints.slices import SliceReader
from trainer.config import TrainConfig
from trainer.measures.throughput import MEASURED
from unified_model.model import UnifiedEditModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

STEPS = 5


def log(config: TrainConfig) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def core_weights(run: TrainConfig, which: str) -> dict[str, torch.Tensor]:
    folder = Path(run.output) / "export" / which
    places = {"conditioner": "conditioner.", "transformer": "denoiser.transformer."}
    return {
        places[part] + name: value
        for part in places
        for file in sorted((folder / part).glob("*.safetensors"))
        for name, value in load_file(file).items()
    }


@pytest.fixture(scope="module")
def runs(tiny_model: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TrainConfig]]:
    """Runs of two ranks: ZeRO 1, 2 and 3, and ZeRO 2 stopped by SIGTERM and started again. One process a rank for all
    of them, since starting one costs more than the training."""
    folder = tmp_path_factory.mktemp("ranks")
    changes = {
        "steps": STEPS,
        "checkpoints": {"every": 1, "keep_last": STEPS},
        "batch_size": 1,
        "gradient_accumulation": 2,
    }
    configs = {
        f"zero{stage}": config_for(tiny_model, shards, folder / f"zero{stage}", engine={"zero_stage": stage}, **changes)
        for stage in (1, 2, 3)
    }
    configs["stopped"] = configs["zero2"].model_copy(update={"output": str(folder / "stopped")})
    # ZeRO-3 last: it changes torch's linear layer for the rest of a process, which then rounds otherwise.
    order = ["zero1", "zero2", "stopped", "stopped", "zero3"]
    jobs = [configs[name].as_json() for name in order]
    jobs[order.index("stopped")]["sigterm_at"] = 2
    run_ranks(jobs, folder / "told")
    yield configs


def saved_weights(checkpoint: Path, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The trainables of a checkpoint, whole."""
    weights = {}
    with SliceReader(sorted(checkpoint.glob("optimizer-*.safetensors"))) as reader:
        for key, total in reader.totals.items():
            kind, _, name = key.partition("/")
            if kind == "weight":
                flat = torch.empty(total)
                reader.read_into(key, 0, flat)
                weights[name] = flat.view(like[name].shape)
    return weights


def unsharded_average(run: TrainConfig) -> dict[str, torch.Tensor]:
    """The average computed plainly, on whole parameters, from the weights after each step."""
    start = dict(UnifiedEditModel.from_pretrained(run.model).core.state_dict())
    average: dict[str, torch.Tensor] = {}
    for folder in complete_checkpoints(Path(run.output)):
        step, weights = step_of(folder), saved_weights(folder, start)
        decay = decay_at(step - 1, run.ema.decay)
        for name, value in weights.items():
            before = average.get(name, start[name].float())
            average[name] = decay * before + (1 - decay) * value.float()
    return average


@pytest.mark.parametrize("stage", [1, 2])
def test_the_sharded_average_equals_an_unsharded_one(runs: dict[str, TrainConfig], stage: int) -> None:
    run = runs[f"zero{stage}"]
    reference, ours, raw = unsharded_average(run), core_weights(run, "ema"), core_weights(run, "raw")
    assert len(reference) > 20
    for name, value in reference.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6)
    assert any(not torch.equal(ours[name], raw[name]) for name in reference)


def test_zero_3_averages_as_zero_2(runs: dict[str, TrainConfig]) -> None:
    ours, theirs = core_weights(runs["zero3"], "ema"), core_weights(runs["zero2"], "ema")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5)


def test_two_ranks_stopped_and_started_again_lose_nothing(runs: dict[str, TrainConfig]) -> None:
    assert log(runs["stopped"]) == log(runs["zero2"])
    for which in ("raw", "ema"):
        ours, theirs = core_weights(runs["stopped"], which), core_weights(runs["zero2"], which)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_started_again_gives_the_same_losses_to_the_last_bit(
    tiny_model: Path, shards: Path, tmp_path: Path, processes: int
) -> None:
    """SIGKILL to `editmill train` itself; the command is then given again."""
    steps, often = 40, {"checkpoints": {"every": 4}, "batch_size": 1, "engine": {"zero_stage": 2}}
    config = config_for(tiny_model, shards, tmp_path / "run", steps=steps, **often)
    text = json.dumps(config.as_json())
    (tmp_path / "config.yaml").write_text(text)
    command = [sys.executable, "-m", "jobs", "train", str(tmp_path / "config.yaml"), "--processes", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"):
        environment.pop(name, None)
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    kill_at_step(first, Path(config.output) / "log.jsonl", 6)
    died_at = len((Path(config.output) / "log.jsonl").read_text().splitlines())
    assert died_at < steps
    subprocess.run(command, env=environment, check=True, timeout=400, stderr=subprocess.DEVNULL)
    unbroken = [*command, f"--set=output={tmp_path / 'unbroken'}"]
    subprocess.run(unbroken, env=environment, check=True, timeout=400, stderr=subprocess.DEVNULL)
    ours, theirs = config, config.model_copy(update={"output": str(tmp_path / "unbroken")})
    assert log(ours) == log(theirs)
    for which in ("raw", "ema"):
        weights = core_weights(theirs, which)
        assert all(torch.equal(value, weights[name]) for name, value in core_weights(ours, which).items())


def kill_at_step(process: subprocess.Popen[bytes], path: Path, step: int) -> None:
    """SIGKILL once the log holds `step` lines."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if path.is_file() and path.read_text().count("\n") >= step:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"the run ended with {process.poll()} before step {step}")
