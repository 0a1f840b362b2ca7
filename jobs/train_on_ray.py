"""`editmill train --ray`: the ranks are workers of Ray Train, on as many nodes as the cluster has.

Every worker is one rank and calls the same `trainer.train.train` as under any other launcher; checkpoints are the
trainer's own, in the run's folder, which all nodes must see. A worker that is killed, or a node that is lost, ends the
attempt, and Ray starts a new one, which goes on from the newest checkpoint. An error that somebody has to mend ends the
run at once and comes back as it is.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from jobs.runners.errors import pack_error, raise_error
from jobs.runners.follow_file import followed, heard
from jobs.runners.ray_session import check_address
from schemas.errors import ConfigError, EditmillError
from trainer import run_folder
from trainer.checkpoints.checkpoint import complete_checkpoints
from trainer.config import TrainConfig, load_train_config
from trainer.distributed import TIMEOUT
from trainer.errors import TrainingStopped
from trainer.train import parse_changes, train

_OBJECT_STORE = 256 * 2**20
"""Bytes; the samples do not go through Ray."""


@dataclass(frozen=True)
class OnRay:
    """Where the ranks run.

    Args:
        workers: ranks, one a GPU, or one a core where the cluster has no GPU; None takes every GPU.
        address: the cluster to join ("auto", "host:6379"), or None for one of its own on this machine.
        max_failures: how often a run is taken up again after workers were lost.
    """

    workers: int | None
    address: str | None
    max_failures: int


def train_on_ray(path: Path, changes: list[str], where: OnRay, restart: bool = False) -> int:
    """Train the config at `path` with `changes` (`key=value`); returns the exit code of `trainer.train.main`.

    Raises:
        EditmillError: as `trainer.train.train`, raised by the ranks; or no such cluster, or one that is too small.
    """
    config = load_train_config(path, parse_changes(changes))
    if restart:
        run_folder.start_over(config)
    with _cluster(where):
        workers, use_gpu = _workers(where.workers)
        # Ray's annotations know nothing of what a worker returns.
        rank: Any = _rank
        trainer = TorchTrainer(
            rank,
            train_loop_config={"config": config.as_json(), "folder": str(Path.cwd())},
            torch_config=TorchConfig(timeout_s=int(TIMEOUT.total_seconds())),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
            run_config=RunConfig(
                name="attempts",
                storage_path=str((Path(config.output) / run_folder.RAY).absolute()),
                failure_config=FailureConfig(max_failures=where.max_failures),
            ),
        )
        try:
            with followed(_said(config), sys.stderr.write):
                result: Any = trainer.fit()
        except TrainingFailedError as error:
            raise TrainingStopped(
                "workers", workers, f"were lost more than {where.max_failures} times ({error})", "Start the run again."
            ) from error
    raise_error(result.return_value["error"])
    return 0


def _rank(told: dict[str, Any]) -> dict[str, Any]:
    """One worker, in the folder of the command, so that relative paths mean the same."""
    os.chdir(told["folder"])
    config = TrainConfig.model_validate(told["config"])
    context = get_context()
    is_first = context.get_world_rank() == 0
    with heard(_said(config)) if is_first else nullcontext():
        if is_first:
            before = complete_checkpoints(Path(config.output))
            where = before[-1].name if before else "the start"
            sys.stderr.write(f"{context.get_world_size()} workers of Ray Train go on from {where}\n")
        try:
            train(config)
        except EditmillError as error:
            return {"error": pack_error(error)}
    return {"error": b""}


def _said(config: TrainConfig) -> Path:
    """Where the first rank's words are kept."""
    return Path(config.output) / run_folder.RAY / "said.txt"


@contextmanager
def _cluster(where: OnRay) -> Iterator[None]:
    """A Ray session that says nothing itself; what the first rank says comes through a file."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    if where.address is None:
        # A token file in the user's home is of no use for a cluster that lives as long as this process.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(
            address="local",
            num_cpus=max(where.workers or 1, os.cpu_count() or 1),
            object_store_memory=_OBJECT_STORE,
            include_dashboard=False,
            **quiet,
        )
    else:
        check_address(where.address)
        ray.init(address=where.address, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _workers(wanted: int | None) -> tuple[int, bool]:
    """How many, and whether each holds a GPU."""
    resources = ray.cluster_resources()
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    if wanted is None and not gpus:
        raise ConfigError("--workers", None, "must be given, since the cluster has no GPU", "Say --workers 2.")
    number, there, unit = wanted or gpus, gpus or cores, "GPUs" if gpus else "cores"
    if number > there:
        raise ConfigError("--workers", number, f"must be at most {there}, the {unit} of the cluster", "Lower it.")
    return number, bool(gpus)
