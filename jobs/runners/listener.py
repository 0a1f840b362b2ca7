"""What a runner tells while it works."""

from __future__ import annotations

from typing import Protocol

from jobs.commits import Commit, Finished


class Listener(Protocol):
    """Hears of every commit once: of those found from an earlier run, and of those made now."""

    def committed(self, commit: Commit, found: bool) -> None:
        """A stage is done for a partition; `found`: it was done by an earlier run."""

    def finished(self, finish: Finished, found: bool) -> None:
        """A partition went through the whole chain."""

    def between_partitions(self) -> None:
        """What was told of so far may end the run here; called in the runner's own thread.

        Raises:
            EditmillError: it does.
        """


class Once:
    """Tells a listener of each commit the first time only: runs with a dataset step go over partitions twice."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._told: set[tuple[str, int]] = set()

    def committed(self, commit: Commit, found: bool) -> None:
        """As `Listener.committed`."""
        mark = (commit.partition, commit.position)
        if mark not in self._told:
            self._told.add(mark)
            self._listener.committed(commit, found)

    def finished(self, finish: Finished, found: bool) -> None:
        """As `Listener.finished`."""
        self._listener.finished(finish, found)

    def between_partitions(self) -> None:
        """As `Listener.between_partitions`."""
        self._listener.between_partitions()
