"""Telling of commits while partitions are still on their way: a cluster hands a partition back only at its end."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

from jobs.chain import Plan
from jobs.commits import Commit
from jobs.run_folder import RunFolder
from jobs.runners.listener import Listener

INTERVAL_S = 0.5
"""Between two looks at the run folder."""


class CommitWatch:
    """Tells a listener of each commit once, whoever sees it first: a look at the run folder, or the returned partition.

    Args:
        before: partition name -> how many stages of it were committed before this run.
        window: how many unfinished partitions, in order, are looked at; about those in flight.
    """

    def __init__(
        self, plan: Plan, folder: RunFolder, before: Mapping[str, int], window: int, listener: Listener
    ) -> None:
        self._plan, self._folder, self._before = plan, folder, dict(before)
        self._window, self._listener = window, listener
        self._told = dict.fromkeys(before, 0)
        self._lock = threading.Lock()

    def tell(self, partition: str, commits: Iterable[Commit]) -> None:
        """Tell of those of a partition's commits, in order from its first stage, that were not told of."""
        with self._lock:
            for commit in commits:
                if commit.position == self._told.get(partition):
                    self._told[partition] += 1
                    self._listener.committed(commit, found=commit.position < self._before[partition])

    def close(self, partition: str) -> None:
        """The partition is finished: look at it no more."""
        with self._lock:
            self._told.pop(partition, None)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at the run folder from a thread meanwhile."""
        stop = threading.Event()
        thread = threading.Thread(target=self._look, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _look(self, stop: threading.Event) -> None:
        while not stop.wait(INTERVAL_S):
            with self._lock:
                open_now: Sequence[tuple[str, int]] = list(islice(self._told.items(), self._window))
            for partition, told in open_now:
                new = self._folder.commits(self._plan.stages[told:], partition)
                if new:
                    self.tell(partition, new)
