"""The in-process runner: one partition after the other, every step in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.chain import Chain
from jobs.run_folder import RunFolder
from jobs.runners.listener import Listener
from jobs.work import finish, resume, run_step
from pipelines.source import Partition
from pipelines.step import Step


def run_in_process(
    chain: Chain, folder: RunFolder, partitions: Sequence[Partition], with_records: bool | None, listener: Listener
) -> None:
    """Bring `partitions` through the chain. Models are loaded when the first row reaches them.

    Args:
        with_records: whether to write the rows after the last step to `records/`; None where the chain goes on.

    Raises:
        EditmillError: of a source or a step; what was committed stays.
    """
    ready: set[int] = set()
    for partition in partitions:
        resumed = resume(chain.plan, folder, partition)
        commits, table = list(resumed.commits), resumed.table
        for commit in commits:
            listener.committed(commit, found=not resumed.read_now)
        for position in range(len(commits), len(chain.plan.stages)):
            step: Step[Any] = chain.steps[position - 1]
            if position not in ready and table.num_rows:
                step.setup()
                ready.add(position)
            table, commit = run_step(chain.plan, folder, partition, position, step, table)
            commits.append(commit)
            listener.committed(commit, found=False)
        if with_records is not None:
            done = finish(chain.plan, folder, partition, tuple(commits), table if with_records else None)
            listener.finished(done, found=False)
