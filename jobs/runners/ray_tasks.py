"""The Ray runner of chains without a model: a task takes one partition through the whole chain.

Nothing but the partition's name and its commits travels. (Ray Data, which streams between steps that want different
resources, starts two actors of its own before its first row: 1.3 processor seconds, which a job without a model need
not spend.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

from jobs.chain import Chain
from jobs.commits import Commit
from jobs.run_folder import RunFolder
from jobs.runners.config import RunnerConfig
from jobs.runners.errors import pack_error, raise_error
from jobs.runners.listener import Listener
from jobs.runners.ray_metrics import count_rows
from jobs.runners.ray_parts import ATTEMPTS, WATCHED, finished_by_worker, ready_step
from jobs.runners.ray_session import cluster_cores, one_thread
from jobs.runners.watch import CommitWatch
from jobs.work import finish, resume, run_step
from pipelines.source import Partition
from schemas.errors import EditmillError, InputError


@dataclass(frozen=True)
class _Job:
    """What every task knows; small."""

    chain: Chain
    folder: RunFolder
    with_records: bool | None


def run_in_tasks(
    chain: Chain,
    folder: RunFolder,
    partitions: Sequence[Partition],
    with_records: bool | None,
    config: RunnerConfig,
    listener: Listener,
) -> None:
    """As `jobs.runners.ray_data.run_on_ray`, for a chain of which no step holds a model."""
    remote: Any = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, scheduling_strategy="SPREAD")(_bring)
    job = ray.put(_Job(chain, folder, with_records))
    before = {partition.name: len(folder.commits(chain.plan.stages, partition.name)) for partition in partitions}
    watch = CommitWatch(chain.plan, folder, before, WATCHED * (config.workers or cluster_cores()), listener)
    open_partitions = iter(partitions)
    flying: dict[Any, Partition] = {}
    try:
        with watch.looking():
            while True:
                while len(flying) < _room(config) and (following := next(open_partitions, None)) is not None:
                    flying[remote.remote(job, following)] = following
                if not flying:
                    return
                [done], _ = ray.wait(list(flying), num_returns=1)
                partition = flying.pop(done)
                commits, error = _result(done, partition)
                watch.tell(partition.name, commits)
                raise_error(error)
                watch.close(partition.name)
                if with_records is not None:
                    listener.finished(finished_by_worker(folder, chain.plan, partition, with_records), found=False)
                listener.between_partitions()
    finally:
        for reference in flying:
            ray.cancel(reference)


def _room(config: RunnerConfig) -> int:
    """Tasks that may be under way: in a joined cluster as many as the job may use cores, else enough to keep every
    core busy, and to let a cluster see that more would be used."""
    return config.workers if config.workers is not None and config.address is not None else 2 * cluster_cores()


def _result(reference: Any, partition: Partition) -> tuple[tuple[Commit, ...], bytes]:
    try:
        found: tuple[tuple[Commit, ...], bytes] = ray.get(reference)
    except (WorkerCrashedError, NodeDiedError, OutOfMemoryError) as error:
        raise InputError(
            f"partition {partition.name}",
            partition.path,
            f"{ATTEMPTS} times the worker that took it died ({type(error).__name__})",
            "Look into Ray's logs of that time; give the job more memory, or leave the file out.",
        ) from error
    return found


def _bring(job: _Job, partition: Partition) -> tuple[tuple[Commit, ...], bytes]:
    one_thread()
    plan, folder = job.chain.plan, job.folder
    commits: list[Commit] = []
    try:
        resumed = resume(plan, folder, partition)
        commits.extend(resumed.commits)
        if resumed.read_now:
            count_rows(folder.path.name, commits[0])
        table = resumed.table
        for position in range(len(commits), len(plan.stages)):
            step = ready_step(plan, position, job.chain.steps[position - 1], table)
            table, commit = run_step(plan, folder, partition, position, step, table)
            count_rows(folder.path.name, commit)
            commits.append(commit)
        if job.with_records is not None:
            finish(plan, folder, partition, tuple(commits), table if job.with_records else None)
    except EditmillError as error:
        return tuple(commits), pack_error(error)
    return tuple(commits), b""
