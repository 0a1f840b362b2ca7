"""Starting, joining and leaving a Ray cluster, and a map over it."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import ray

from jobs.runners.config import RunnerConfig
from jobs.runners.core_log import core_kept_off_the_terminal
from jobs.runners.errors import pack_error, raise_error
from schemas.errors import EditmillError, InputError

PROBE_S = 10.0
"""How long a cluster may take to accept a connection, in seconds."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def ray_session(config: RunnerConfig) -> Iterator[None]:
    """Hold a Ray session: the one this process already has, the cluster at `config.address`, or one of its own.

    Only what was started here is shut down at the end.

    Raises:
        InputError: no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    with core_kept_off_the_terminal():
        yield from _session(config)


def _session(config: RunnerConfig) -> Iterator[None]:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if config.address is None:
        # A token file in the user's home is of no use for a cluster that lives as long as this process.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(
            address="local",
            num_cpus=config.cores,
            object_store_memory=config.object_store_mib * 2**20,
            include_dashboard=False,
            **quiet,
        )
    else:
        check_address(config.address)
        try:
            ray.init(address=config.address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise _no_cluster(config.address) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Look whether anything listens at `host:port`; Ray by itself tries for minutes. "auto" names the host that
    RAY_ADDRESS does, if any.

    Raises:
        InputError: nothing does.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
        if host is not None and port is not None:
            socket.create_connection((host, port), timeout=PROBE_S).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address) from error


def _no_cluster(address: str) -> InputError:
    return InputError("runner.address", address, "no Ray cluster answers there", "Check the address, or leave it out.")


def cluster_cores() -> int:
    """The cores of the cluster joined."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def gpus_of_a_worker(config: RunnerConfig, models: int) -> tuple[float, int]:
    """The GPUs that each worker with a model holds, and how many such workers each step may have.

    Args:
        models: steps that hold a model, >= 1. All must find a place at the same time.

    Raises:
        InputError: GPUs are asked for, and the cluster has none.
    """
    there = float(ray.cluster_resources().get("GPU", 0.0))
    wanted = min(1.0, there) if config.gpus_per_model is None else config.gpus_per_model
    if wanted and not there:
        raise InputError(
            "runner.gpus_per_model", wanted, "the cluster has no GPU", "Leave it out, or join a cluster with GPUs."
        )
    if not wanted:
        return 0.0, sys.maxsize
    share = min(wanted, math.floor(100 * there / models) / 100)
    return share, max(1, int(there / models / share + 1e-9))


def one_thread() -> None:
    """Keep libraries in this worker from starting a thread for each core: Ray has given the cores out already."""
    import cv2

    cv2.setNumThreads(1)


def ray_map(function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
    """Like `map`, spread over the cluster: results in the items' order, a bounded number of calls in flight.

    Args:
        function, items: picklable; a call may run more than once.

    Raises:
        EditmillError: as raised by `function`.
    """
    remote: Any = ray.remote(num_cpus=1)(_guarded)
    shared = ray.put(function)
    window = cluster_cores() + 1
    flying: deque[Any] = deque()
    for item in items:
        flying.append(remote.remote(shared, item))
        if len(flying) >= window:
            yield _result(flying.popleft())
    while flying:
        yield _result(flying.popleft())


def _guarded(function: Callable[[Item], Result], item: Item) -> tuple[Result | None, bytes]:
    one_thread()
    try:
        return function(item), b""
    except EditmillError as error:
        return None, pack_error(error)


def _result(reference: Any) -> Any:
    result, error = ray.get(reference)
    raise_error(error)
    return result
