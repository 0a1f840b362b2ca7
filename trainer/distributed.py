"""The ranks of a run: starting the process group, and the few collectives that the trainer needs."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, cast

import torch
from torch import distributed

from schemas.errors import ConfigError, EditmillError

Result = TypeVar("Result")

RENDEZVOUS = "EDITMILL_RENDEZVOUS"
"""Environment variable with the `file://` address at which the ranks of `trainer.launch` meet. Under torchrun or the
deepspeed launcher it is absent, and MASTER_ADDR and MASTER_PORT are used."""

TIMEOUT = timedelta(hours=1)
"""How long a rank waits for the others before it takes them for dead. At the end of a run the first rank writes two
exports of tens of gigabytes while the others wait, which on a slow file system takes longer than NCCL's ten minutes."""


@dataclass(frozen=True)
class Ranks:
    """This process among the others.

    Args:
        rank: 0 <= rank < world.
        world: number of processes.
        local_rank: position among the processes of this machine.
        device: where this process computes.
    """

    rank: int
    world: int
    local_rank: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes logs and exports."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """A float64 tensor summed over the ranks, on the CPU, the same on every rank. A collective."""
        total = values.detach().to(self.device, torch.float64, copy=True)
        distributed.all_reduce(total)
        return total.cpu()

    def gather(self, value: Any) -> list[Any]:
        """A picklable value from every rank, in rank order, on every rank. A collective."""
        gathered: list[Any] = [None] * self.world
        distributed.all_gather_object(gathered, value)
        return gathered

    def together(self, action: Callable[[], Result]) -> Result:
        """Do `action` on every rank; where it fails on one, every rank raises that error. A collective.

        Without this, the other ranks would wait for ever at their next collective.

        Raises:
            EditmillError: of the lowest rank that failed.
        """
        result, failure = None, None
        try:
            result = action()
        except EditmillError as error:
            failure = error
        failures = [error for error in self.gather(failure) if error is not None]
        if failures:
            raise failures[0]
        return cast("Result", result)

    def barrier(self) -> None:
        """Wait for every rank. A collective."""
        self.sum(torch.zeros(()))


def start() -> Ranks:
    """Join the process group, making it where there is none; alone if no launcher set RANK and WORLD_SIZE.

    A group that stands already is used again, so that several runs may follow each other in one process.

    Raises:
        ConfigError: there are GPUs, but none for this rank.
    """
    _set_environment()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    use_cuda = torch.cuda.is_available()
    if use_cuda:
        _use_gpu(local_rank)
    if not distributed.is_initialized():
        backend = "nccl" if use_cuda else "gloo"
        if RENDEZVOUS in os.environ:
            distributed.init_process_group(
                backend, init_method=os.environ[RENDEZVOUS], rank=rank, world_size=world, timeout=TIMEOUT
            )
        elif world > 1:
            distributed.init_process_group(backend, timeout=TIMEOUT)
        else:
            store = distributed.HashStore()  # type: ignore[attr-defined]  # public, but missing in its __all__
            distributed.init_process_group(backend, store=store, rank=0, world_size=1, timeout=TIMEOUT)
        atexit.register(stop)
    return Ranks(rank, world, local_rank, torch.device("cuda", local_rank) if use_cuda else torch.device("cpu"))


def _use_gpu(local_rank: int) -> None:
    seen = torch.cuda.device_count()
    if local_rank >= seen:
        raise ConfigError(
            "LOCAL_RANK",
            local_rank,
            f"must be less than the {seen} GPUs that this process sees",
            "Start one process a GPU, each of which sees all GPUs of its machine (Slurm: --gpus-per-node, and not "
            "--gpus-per-task).",
        )
    torch.cuda.set_device(local_rank)


def stop() -> None:
    """Leave the process group. Only at the end of a process: DeepSpeed cannot be started again after it."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def leave(exit_code: int) -> NoReturn:
    """Leave the process group and end this process at once.

    Threads of the collectives may call back into an interpreter that is winding down, which aborts a rank whose work is
    long saved. There is nothing left to wind down.
    """
    stop()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _set_environment() -> None:
    """What DeepSpeed reads from the environment, where no launcher set it. Before anything imports deepspeed, as
    accelerate does once a model is loaded."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "localhost")):
        os.environ.setdefault(name, value)


def first_by_environment() -> bool:
    """Whether this process is the first rank, as its launcher says; known before the process group stands."""
    return os.environ.get("RANK", "0") == "0"
