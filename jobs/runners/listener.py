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
