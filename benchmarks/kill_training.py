"""A training run on two processes, killed with SIGKILL at random steps and started again, against one nobody killed.

    python benchmarks/kill_training.py                       # 20 kills in 80 steps
    python benchmarks/kill_training.py --kills 3 --steps 15 --seed 1

One run is killed again and again: all of its processes, its first rank, its second rank, or the command that started
them, in turn. Then every step's loss, gradient norm and samples must be those of the unbroken run to the last bit, and
so must the exported weights. Exits with 1 where they are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psutil
import yaml
from kill_jobs import write_config, write_pairs

from trainer.measures.throughput import MEASURED
from unified_model.tiny import build_tiny

VICTIMS = ("all", "first rank", "second rank", "command")
PAIRS = 60
DEADLINE_S = 300.0
"""How long a run may take to its next step."""


def prepare(folder: Path, steps: int) -> Path:
    """A tiny model, packed pairs and the run's config; the config's path."""
    write_pairs(folder / "pairs", PAIRS)
    job = write_config(folder / "job", folder / "pairs")
    subprocess.run(
        [sys.executable, "-m", "jobs", "run", str(job), "--runner", "in_process"], check=True, capture_output=True
    )
    build_tiny().save_pretrained(folder / "model")
    values = {
        "model": str(folder / "model"),
        "output": str(folder / "killed"),
        "stage": "edit",
        "data": {"shards": [str(folder / "job" / "shards")], "resolution": 64},
        "steps": steps,
        "batch_size": 1,
        "gradient_accumulation": 2,
        "optimizer": {"learning_rate": 1e-3},
        "engine": {"zero_stage": 2, "dtype": "bfloat16"},
        "checkpoints": {"every": 3},
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def start(config: Path, log: Path, *more: str) -> subprocess.Popen[bytes]:
    """The run as a user starts it, in a process group of its own."""
    command = [sys.executable, "-m", "jobs", "train", str(config), "--processes", "2", *more]
    return subprocess.Popen(
        command,
        stderr=log.open("ab"),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def lines(run: Path) -> list[dict[str, Any]]:
    """The whole lines of the run's log, without what was measured by the clock."""
    path = run / "log.jsonl"
    whole = (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    )
    return [{name: value for name, value in json.loads(line).items() if name not in MEASURED} for line in whole]


def ranks_of(command: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The two ranks, in order."""
    found = [one for one in psutil.Process(command.pid).children() if "trainer.train" in one.cmdline()]
    return sorted(found, key=lambda one: int(one.environ()["RANK"]))


def strike(victim: str, command: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and wait until nothing of the run is left."""
    family = [psutil.Process(command.pid), *ranks_of(command)]
    if victim == "all":
        os.killpg(command.pid, signal.SIGKILL)
    else:
        family[{"command": 0, "first rank": 1, "second rank": 2}[victim]].kill()
    command.wait()
    _, alive = psutil.wait_procs(family[1:], timeout=60)
    for one in alive:
        one.kill()


def weights(run: Path) -> dict[str, str]:
    """Exported file -> sha256."""
    files = sorted((run / "export").rglob("*.safetensors"))
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0, help="of the steps at which it is killed")
    options = parser.parse_args()
    place = Path(mkdtemp(prefix="kill-training-"))
    config = prepare(place, options.steps)
    whole, killed = place / "whole", place / "killed"
    if start(config, place / "whole.log", f"--set=output={whole}").wait() != 0:
        raise SystemExit(f"the unbroken run failed; see {place / 'whole.log'}")
    print(f"unbroken: {options.steps} steps on 2 processes", flush=True)
    moments = sorted(random.Random(options.seed).sample(range(1, options.steps), options.kills))
    repeated = 0
    for number, moment in enumerate(moments):
        command = start(config, place / "killed.log")
        deadline = time.monotonic() + DEADLINE_S
        before = lines(killed)
        while len(lines(killed)) < moment or (before and lines(killed) == before):
            if command.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the run ended or stood still before step {moment}; see {place / 'killed.log'}")
            time.sleep(0.005)
        victim = VICTIMS[number % len(VICTIMS)]
        strike(victim, command)
        done = len(lines(killed))
        kept = max((int(path.name[5:]) for path in (killed / "checkpoints").glob("step-*")), default=0)
        repeated += done - kept
        print(f"{number + 1:>3}  {victim:<11} killed after step {done:>3}, goes on from step {kept:>3}", flush=True)
    if start(config, place / "killed.log").wait() != 0:
        raise SystemExit(f"the last start failed; see {place / 'killed.log'}")
    ours, theirs = lines(killed), lines(whole)
    equal = sum(one == other for one, other in zip(ours, theirs, strict=False))
    same = weights(killed) == weights(whole)
    print(f"{options.kills} kills, {repeated} steps done twice")
    print(f"{equal} of {options.steps} steps with the same loss, gradient norm and samples to the last bit")
    print(f"exported weights: {'the same bytes' if same else 'DIFFERENT'}")
    if equal != options.steps or len(ours) != len(theirs) or not same:
        raise SystemExit(f"not as the unbroken run; see {place}")
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
