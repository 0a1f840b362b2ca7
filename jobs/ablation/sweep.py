"""Every run as a Ray task: a plain `editmill train` in a process of its own, as many at a time as there is room for."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import ray
import yaml

from jobs.ablation.config import AblationConfig
from jobs.ablation.runs import Run
from jobs.runners.config import RunnerConfig
from jobs.runners.ray_session import ray_session
from schemas.atomic import write_bytes
from trainer.errors import TrainingStopped

SAID = "said.txt"
"""What a run wrote to its terminal, beside its config."""
_PR_SET_PDEATHSIG = 1
_PRELOADED = ["jobs.ablation.sweep", "trainer.train", "deepspeed"]
_TAIL = 2000
"""Characters of it that an error shows."""

OnDone = Callable[[Run], None]


def sweep(config: AblationConfig, runs: Sequence[Run], on_done: OnDone) -> None:
    """Train what is not done yet.

    A run that a killed sweep left goes on from its last checkpoint, as `editmill train` does. Where one fails, those
    that are under way are finished, no new one is started, and the error tells what it said.

    Raises:
        TrainingStopped: a run failed.
    """
    waiting = [run for run in runs if not run.is_done]
    if not waiting:
        return
    cores = max(1, round(config.at_once * config.cpus_per_run))
    runner = RunnerConfig(kind="ray", workers=cores, address=config.address, object_store_mib=100)
    # Ray's workers are nice by 15: on a machine that does anything else, trainings would stand still.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with ray_session(runner):
        task: Any = ray.remote(num_cpus=config.cpus_per_run, num_gpus=config.gpus_per_run, max_retries=2)(_train)
        under_way: dict[Any, Run] = {}
        failed: list[tuple[Run, str]] = []
        # On a cluster that was joined Ray itself holds back what has no room.
        limit = config.at_once if config.address is None else len(waiting)
        queue = list(reversed(waiting))
        while under_way or (queue and not failed):
            while queue and not failed and len(under_way) < limit:
                run = queue.pop()
                threads = max(1, int(config.cpus_per_run))
                under_way[task.remote(_written(run), str(run.folder), threads, config.gpus_per_run > 0)] = run
            (ready,), _ = ray.wait(list(under_way), num_returns=1)
            run = under_way.pop(ready)
            error = ray.get(ready)
            if error:
                failed.append((run, error))
            else:
                on_done(run)
    if failed:
        run, error = failed[0]
        raise TrainingStopped(
            f"run {run.name}", str(run.folder), f"failed: {error}", "Mend it and start the same command again."
        )


def _written(run: Run) -> str:
    """The run's config as a file beside its folder, for `editmill train`."""
    path = run.folder.parent / f"{run.folder.name}.yaml"
    text = yaml.safe_dump(run.config.as_json(), sort_keys=False, allow_unicode=True)
    write_bytes(path, text.encode())
    return str(path)


def _train(config: str, folder: str, threads: int, on_gpu: bool) -> str:
    """Train one run; "" where it came to its end, else what it said last.

    Each run is a process of its own. On a CPU it is forked from one that has imported everything and done nothing,
    since the libraries may take as long to import as a small run to train; CUDA does not outlive a fork.
    """
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if not on_gpu:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    context: Any = multiprocessing.get_context("spawn" if on_gpu else "forkserver")
    if not on_gpu:
        multiprocessing.set_forkserver_preload(_PRELOADED)
    said = Path(folder).with_name(f"{Path(folder).name}.{SAID}")
    run = context.Process(target=_run, args=(config, str(said)))
    run.start()
    run.join()
    if run.exitcode == 0:
        return ""
    return f"exit code {run.exitcode}; {said}: {said.read_text(errors='replace')[-_TAIL:]}"


def _run(config: str, said: str) -> NoReturn:
    """`editmill train CONFIG` in this process, what it says going to a file."""
    if sys.platform == "linux":
        # A run whose sweep was killed would hold its folder, and the sweep that is started again could not go on with
        # it: let it save and end when the process that it was forked from is gone.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    with open(said, "wb") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    from trainer import distributed
    from trainer.train import main

    distributed.leave(main([config]))
