"""Bringing shards into a cache: here, one after the other, or with actors on Ray that each hold the frozen parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.caching.config import CacheConfig
from schemas.errors import EditmillError, InputError
from trainer.cache.card import ShardCommit
from trainer.cache.frozen import FrozenParts
from trainer.cache.identity import CacheIdentity
from trainer.cache.write import ShardWork, cache_shard

ATTEMPTS = 5
"""How often a shard is begun whose worker or node dies."""


@dataclass
class Worker:
    """Holds the frozen parts between shards; loads them at the first. Light to pickle before."""

    model: str
    identity: CacheIdentity
    folder: Path
    device: str
    batch_size: int
    parts: FrozenParts | None = None

    def __call__(self, work: ShardWork) -> ShardCommit:
        """Put a shard into the cache.

        Raises:
            EditmillError: as `FrozenParts` and `cache_shard`.
        """
        if self.parts is None:
            self.parts = FrozenParts(self.model, self.identity, self.device, self.batch_size)
        return cache_shard(work, self.parts, self.identity, self.folder)


def cached_here(worker: Worker, works: Sequence[ShardWork]) -> Iterator[ShardCommit]:
    """The commits of all shards, in this process."""
    for work in works:
        yield worker(work)


def cached_on_ray(worker: Worker, works: Sequence[ShardWork], config: CacheConfig) -> Iterator[ShardCommit]:
    """The commits of all shards, as they are done, on the Ray session of this process.

    Raises:
        EditmillError: as it was raised in a worker; what was committed stays.
    """
    import ray
    from ray.exceptions import RayActorError

    from jobs.runners.errors import raise_error
    from jobs.runners.ray_session import cluster_cores, gpus_of_a_worker

    gpus, places = gpus_of_a_worker(config.runner, models=1)
    seats = places if gpus else (config.runner.workers or cluster_cores())
    actor_class: Any = ray.remote(max_restarts=ATTEMPTS - 1, max_task_retries=ATTEMPTS - 1)(_Actor)
    options = {"num_cpus": 0.5 if gpus else 1, "num_gpus": gpus or None}
    actors = [actor_class.options(**options).remote(worker) for _ in range(min(max(1, seats), len(works)))]
    waiting = iter(works)
    flying: dict[Any, tuple[Any, ShardWork]] = {}
    for actor in actors:
        # One more than it works on, so that it never waits for this process.
        for work in (next(waiting, None), next(waiting, None)):
            if work is not None:
                flying[actor.run.remote(work)] = (actor, work)
    while flying:
        [done], _ = ray.wait(list(flying), num_returns=1)
        actor, work = flying.pop(done)
        try:
            commit, error = ray.get(done)
        except RayActorError as died:
            raise InputError(
                f"shard {work.name}",
                str(work.path),
                f"the worker that took it died {ATTEMPTS} times ({type(died).__name__})",
                "Look into Ray's logs of that time; lower batch_size, or give the worker more memory.",
            ) from died
        raise_error(error)
        yield commit
        following = next(waiting, None)
        if following is not None:
            flying[actor.run.remote(following)] = (actor, following)


class _Actor:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def run(self, work: ShardWork) -> tuple[ShardCommit | None, bytes]:
        from jobs.runners.errors import pack_error
        from jobs.runners.ray_session import one_thread

        one_thread()
        try:
            return self._worker(work), b""
        except EditmillError as error:
            return None, pack_error(error)
