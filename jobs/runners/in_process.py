"""The in-process runner: one partition after the other, every step in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from jobs.chain import Chain
from jobs.run_folder import RunFolder
from jobs.runners.listener import Listener
from jobs.work import Resumed, finish, resume, run_step
from pipelines.source import Partition
from pipelines.step import Step

READ_AHEAD = 2
"""Partitions that are read at a time: what one does alone at its beginning and end the other fills."""
READ_AHEAD_BYTES = 64 * 2**20
"""After a larger table no further one is begun before this one is written."""


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
        listener.between_partitions()


def _resumed(chain: Chain, folder: RunFolder, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Resumed]]:
    """The partitions, each read; the next ones are read meanwhile where the source may and the last one was small."""
    if not chain.plan.source.reads_ahead or chain.steps:
        for partition in partitions:
            yield partition, resume(chain.plan, folder, partition)
        return
    with ThreadPoolExecutor(READ_AHEAD) as readers:
        following: deque[Future[Resumed]] = deque()
        for place, partition in enumerate(partitions):
            following = following or deque([readers.submit(resume, chain.plan, folder, partition)])
            resumed = following.popleft().result()
            if resumed.table.nbytes < READ_AHEAD_BYTES:
                for later in partitions[place + 1 + len(following) : place + 1 + READ_AHEAD]:
                    following.append(readers.submit(resume, chain.plan, folder, later))
            yield partition, resumed
