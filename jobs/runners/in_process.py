"""The in-process runner: one partition after the other, every step in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jobs.chain import Chain
from jobs.run_folder import RunFolder
from jobs.runners.listener import Listener
from jobs.work import Resumed, finish, resume, run_step
from pipelines.source import Partition
from pipelines.step import Step

READ_AHEAD_BYTES = 64 * 2**20
"""After a larger table the next one is read only once this one is written."""


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
    for partition, resumed in _resumed(chain, folder, partitions):
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


def _resumed(chain: Chain, folder: RunFolder, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Resumed]]:
    """The partitions, each read; the next one is read meanwhile where the source may and the last one was small."""
    if not chain.plan.source.reads_ahead or chain.steps:
        for partition in partitions:
            yield partition, resume(chain.plan, folder, partition)
        return
    with ThreadPoolExecutor(1) as reader:
        following = None
        for place, partition in enumerate(partitions):
            # Always in that one thread: what a source keeps for its thread is then kept once.
            resumed = (following or reader.submit(resume, chain.plan, folder, partition)).result()
            following = None
            if place + 1 < len(partitions) and resumed.table.nbytes < READ_AHEAD_BYTES:
                following = reader.submit(resume, chain.plan, folder, partitions[place + 1])
            yield partition, resumed
