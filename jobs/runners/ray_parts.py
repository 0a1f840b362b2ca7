"""What both of Ray's runners share."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from jobs.chain import Plan
from jobs.commits import Finished
from jobs.run_folder import RunFolder
from pipelines.source import Partition
from pipelines.step import Step
from schemas.errors import ContractError

ATTEMPTS = 5
"""How often a partition is begun whose worker or node dies; what it had committed is not done again."""
WATCHED = 8
"""Partitions watched for each core while they are in flight."""

_ready: dict[str, Step[Any]] = {}
"""Steps set up in this worker process, by stage fingerprint."""


def ready_step(plan: Plan, position: int, step: Step[Any], table: pa.Table) -> Step[Any]:
    """The step at `position`, set up once in this process, where there is a row for it."""
    mark = plan.stages[position].fingerprint
    if mark not in _ready and table.num_rows:
        step.setup()
        _ready[mark] = step
    return _ready.get(mark, step)


def finished_by_worker(folder: RunFolder, plan: Plan, partition: Partition, with_records: bool) -> Finished:
    """The end of a partition, which a worker wrote.

    Raises:
        ContractError: this process does not see it.
    """
    done = folder.finished(plan, partition.name, with_records)
    if done is None:
        raise ContractError(
            "run folder",
            str(folder.path),
            "a worker finished a partition that this process cannot see",
            "Put the run folder on a file system that all nodes share.",
        )
    return done
