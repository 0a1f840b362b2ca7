"""The Ray runner of chains with a model: partitions stream through one Ray Data operator a step.

A row of the dataset is one partition: its Arrow IPC bytes (images stay encoded) with its name and how far it is. Steps
without a model run as tasks, steps that hold one as actors. Each operator commits its own work, so that a partition
done twice, as happens when a node is lost, is done to the same files.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy
from ray.data.exceptions import SystemException
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, RayTaskError, WorkerCrashedError

from jobs.chain import Chain, Plan
from jobs.commits import Commit
from jobs.run_folder import RunFolder
from jobs.runners.config import RunnerConfig
from jobs.runners.errors import pack_error, raise_error
from jobs.runners.listener import Listener
from jobs.runners.ray_metrics import count_rows
from jobs.runners.ray_parts import ATTEMPTS, WATCHED, finished_by_worker, ready_step
from jobs.runners.ray_session import cluster_cores, gpus_of_a_worker, one_thread
from jobs.runners.watch import CommitWatch
from jobs.work import finish, resume, run_step
from pipelines.source import Partition
from pipelines.step import Step
from schemas.errors import EditmillError, InputError

ROW = pa.schema([pa.field("head", pa.binary()), pa.field("table", pa.large_binary()), pa.field("error", pa.binary())])
"""A partition on its way. `head`: a pickled `_Head`; `table`: an Arrow IPC stream; `error`: a packed error or empty."""

DEATHS = (RayActorError, WorkerCrashedError, NodeDiedError, OutOfMemoryError)
MOST_NAMED = 8
"""Partitions named in an error."""


@dataclass
class _Head:
    partition: Partition
    found: tuple[Commit, ...] = ()
    made: list[Commit] = field(default_factory=list)

    @property
    def done(self) -> int:
        return len(self.found) + len(self.made)


@dataclass(frozen=True)
class _Job:
    """What every operator knows; small."""

    plan: Plan
    folder: RunFolder
    with_records: bool | None


def run_on_ray(
    chain: Chain,
    folder: RunFolder,
    partitions: Sequence[Partition],
    with_records: bool | None,
    config: RunnerConfig,
    listener: Listener,
) -> None:
    """Bring `partitions` through the chain on the Ray session of this process (`ray_session`).

    Args:
        with_records: whether to write the rows after the last step to `records/`; None where the chain goes on.

    Raises:
        EditmillError: of a source or a step, as it was raised in the worker; what was committed stays.
    """
    _be_quiet()
    job = _Job(chain.plan, folder, with_records)
    cores = config.workers or cluster_cores()
    # Steps that all partitions have behind them need no operator, nor their model.
    before = {partition.name: len(folder.commits(chain.plan.stages, partition.name)) for partition in partitions}
    positions = range(max(1, min(before.values())), len(chain.plan.stages))
    models = sum(chain.steps[position - 1].holds_model for position in positions)
    task, actor, pool = _shares(cores, models)
    computing = sum(chain.steps[position - 1].computes_model for position in positions)
    gpus, places = gpus_of_a_worker(config, computing) if computing else (0.0, pool)

    rows = [{"head": pickle.dumps(_Head(partition))} for partition in partitions]
    # Untyped: Ray's own annotations of map_batches admit no further arguments.
    data: Any = ray.data.from_items(rows, override_num_blocks=len(rows))
    options: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "udf_modifying_row_count": False}
    retries = ATTEMPTS - 1
    tasks = {**options, "compute": TaskPoolStrategy(size=min(cores, len(rows))), "num_cpus": task}
    tasks["max_retries"] = retries
    data = data.map_batches(_read, fn_args=(job,), **tasks)
    for position in positions:
        step = chain.steps[position - 1]
        if step.holds_model:
            data = data.map_batches(
                _StepActor,
                fn_constructor_args=(job, position, step),
                compute=ActorPoolStrategy(size=min(pool, places) if step.computes_model else pool),
                num_cpus=actor,
                num_gpus=gpus if gpus and step.computes_model else None,
                # By itself Ray Data would give a partition that kills its worker to the next one for ever.
                max_task_retries=retries,
                **options,
            )
        else:
            data = data.map_batches(_run_step, fn_args=(job, position, step), **tasks)
    data = data.map_batches(_finish, fn_args=(job,), **tasks)
    watch = CommitWatch(chain.plan, folder, before, WATCHED * cores, listener)
    # Closed at once where an error ends it: Ray Data's threads must not outlive the session, or they end the process.
    try:
        with watch.looking(), closing(iter(data.iter_rows())) as returned:
            for row in returned:
                head: _Head = pickle.loads(row["head"])
                watch.tell(head.partition.name, (*head.found, *head.made))
                raise_error(row["error"])
                watch.close(head.partition.name)
                del before[head.partition.name]
                if with_records is not None:
                    done = finished_by_worker(folder, chain.plan, head.partition, with_records)
                    listener.finished(done, found=False)
                listener.between_partitions()
    except (RayError, SystemException) as error:
        death = _death(error)
        if death is None:
            raise
        raise _worker_died(chain, folder, [one for one in partitions if one.name in before], death) from error


def _death(error: BaseException | None) -> BaseException | None:
    """What Ray says of a worker that died, among the causes of an error; None where none did."""
    while error is not None and not isinstance(error, DEATHS):
        error = (error.cause if isinstance(error, RayTaskError) else None) or error.__cause__ or error.__context__
    return error


def _worker_died(chain: Chain, folder: RunFolder, left: Sequence[Partition], death: BaseException) -> InputError:
    """The error for a partition whose workers die; which one it is Ray does not say: one of those under way."""
    stages = chain.plan.stages
    under_way = [(one, done) for one in left if 0 < (done := len(folder.commits(stages, one.name))) < len(stages)]
    names = ", ".join(f"{one.name} (before {stages[done].name})" for one, done in under_way[:MOST_NAMED])
    return InputError(
        "partition",
        names or "none under way",
        f"{ATTEMPTS} times the worker that took one of them died ({type(death).__name__})",
        "Look into Ray's logs of that time; give the job more memory, or leave the file out.",
    )


def _shares(cores: int, models: int) -> tuple[float, float, int]:
    """Cores for a task and for an actor, and actors a model step.

    Actors never give their cores back, so all together they get at most half: tasks always find a place. (Actors that
    filled a small node were seen to starve the tasks behind them for ever.) An actor's share is never a task's, since
    Ray would then fuse the two, and the model would wait while its actor reads.
    """
    if not models:
        return 1.0, 0.0, 0
    pool = max(1, cores // (2 * models))
    actor = min(0.99, int(99 * cores / (2 * models * pool)) / 100)
    return min(1.0, cores / 2), actor, pool


def _read(batch: pa.Table, job: _Job) -> pa.Table:
    one_thread()
    head: _Head = pickle.loads(batch["head"][0].as_py())
    try:
        resumed = resume(job.plan, job.folder, head.partition)
    except EditmillError as error:
        return _row(head, error=error)
    if resumed.read_now:
        head.made.extend(resumed.commits)
        for commit in resumed.commits:
            count_rows(job.folder.path.name, commit)
    else:
        head.found = resumed.commits
    return _row(head, resumed.table)


def _run_step(batch: pa.Table, job: _Job, position: int, step: Step[Any]) -> pa.Table:
    head: _Head = pickle.loads(batch["head"][0].as_py())
    if batch["error"][0].as_py() or head.done > position:
        return batch
    one_thread()
    try:
        table = _table(batch)
        step = ready_step(job.plan, position, step, table)
        table, commit = run_step(job.plan, job.folder, head.partition, position, step, table)
    except EditmillError as error:
        return _row(head, error=error)
    count_rows(job.folder.path.name, commit)
    head.made.append(commit)
    return _row(head, table)


class _StepActor:
    """Keeps a step that holds a model between partitions."""

    def __init__(self, job: _Job, position: int, step: Step[Any]) -> None:
        self.job, self.position, self.step = job, position, step

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One partition through the step. The model is loaded at the first row, so that an error of it is a row's."""
        return _run_step(batch, self.job, self.position, self.step)


def _finish(batch: pa.Table, job: _Job) -> pa.Table:
    if batch["error"][0].as_py():
        return batch
    head: _Head = pickle.loads(batch["head"][0].as_py())
    if job.with_records is None:
        return _row(head)
    try:
        table = _table(batch) if job.with_records else None
        finish(job.plan, job.folder, head.partition, (*head.found, *head.made), table)
    except EditmillError as error:
        return _row(head, error=error)
    return _row(head)


def _row(head: _Head, table: pa.Table | None = None, error: EditmillError | None = None) -> pa.Table:
    encoded = pa.py_buffer(b"")
    if table is not None:
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        encoded = stream.getvalue()
    # One value over the buffer as it is, so that images are not copied once more.
    offsets = pa.array([0, encoded.size], pa.int64()).buffers()[1]
    columns = [
        pa.array([pickle.dumps(head)], pa.binary()),
        pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, encoded]),
        pa.array([b"" if error is None else pack_error(error)], pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=ROW)


def _table(batch: pa.Table) -> pa.Table:
    with pa.ipc.open_stream(batch["table"][0].as_buffer()) as reader:
        return reader.read_all()


def _be_quiet() -> None:
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
