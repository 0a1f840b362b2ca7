"""The real launchers, on two processes: the deepspeed launcher, torchrun and Ray Train, one run after the other.

One test, since each start costs ten times the training: a run that torchrun was told to stop, and that then lost a
worker of Ray Train, must be the run that the deepspeed launcher did in one go.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from training_data import config_for

from trainer.checkpoints.checkpoint import complete_checkpoints
from trainer.measures.throughput import MEASURED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

STEPS = 40
WAIT_S = 480.0
BIN = Path(sys.executable).parent


def lines(run: Path) -> list[dict[str, Any]]:
    path = run / "log.jsonl"
    whole = (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    )
    return [{name: value for name, value in json.loads(line).items() if name not in MEASURED} for line in whole]


def wait_for_step(run: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_S
    while len(lines(run)) < step:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def ranks_below(pid: int, name: str) -> list[psutil.Process]:
    return [one for one in psutil.Process(pid).children(recursive=True) if name in " ".join(one.cmdline())]


def test_every_launcher_goes_on_with_the_same_run(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    config = config_for(
        tiny_model,
        shards,
        tmp_path / "run",
        steps=STEPS,
        batch_size=1,
        engine={"zero_stage": 2},
        checkpoints={"every": 5},
    )
    (tmp_path / "train.yaml").write_text(json.dumps(config.as_json()))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)

    def start(*command: str) -> subprocess.Popen[bytes]:
        said = (tmp_path / f"{len(list(tmp_path.glob('*.err')))}.err").open("wb")
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=said)

    def said() -> str:
        return "".join(file.read_text(errors="replace") for file in sorted(tmp_path.glob("*.err")))

    running: list[subprocess.Popen[bytes]] = []
    try:
        module = ("trainer.train", "train.yaml")
        other = f"--set=output={tmp_path / 'whole'}"
        whole = start(str(BIN / "deepspeed"), "--num_gpus", "2", "--module", *module, other)
        running.append(whole)
        assert whole.wait(timeout=WAIT_S) == 0, said()[-5000:]
        torchrun = start(str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "-m", *module)
        running.append(torchrun)
        wait_for_step(tmp_path / "run", 3, torchrun)
        ranks = ranks_below(torchrun.pid, "trainer.train")
        torchrun.send_signal(signal.SIGTERM)
        torchrun.wait(timeout=WAIT_S)
        psutil.wait_procs(ranks, timeout=WAIT_S)
        stopped = len(lines(tmp_path / "run"))
        assert complete_checkpoints(tmp_path / "run")[-1].name == f"step-{stopped:06d}" and stopped < STEPS, said()[
            -5000:
        ]

        ray = start(sys.executable, "-m", "jobs", "train", "train.yaml", "--ray", "--workers", "2")
        running.append(ray)
        wait_for_step(tmp_path / "run", stopped + 6, ray)
        ranks_below(ray.pid, "RayTrainWorker")[0].kill()
        assert ray.wait(timeout=WAIT_S) == 0, said()[-5000:]
        assert said().count("2 workers of Ray Train go on from") == 2
    finally:
        for process in running:
            process.terminate()
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
