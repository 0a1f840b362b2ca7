"""What a run hears of its work: every commit is counted, logged, shown and held against the budget."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

from jobs.budget import budget_error, counted, over_budget
from jobs.commits import Commit, CommittedFile, Finished
from jobs.config import PipelineConfig
from jobs.event_log import EventLog
from jobs.progress import ProgressView
from jobs.report.counts import Tally
from jobs.run_folder import RunFolder
from jobs.stall import StallWatch
from schemas.errors import EditmillError

_EVIDENCE = 3
"""Rejected rows quoted where a budget is spent."""


class Observer:
    """Hears of every commit: counts it, logs it, shows it.

    Attributes:
        tally: of the commits so far.
        finishes: partition -> its end.
        found_any: whether an earlier start had done something of this run.
    """

    def __init__(
        self, stages: Sequence[str], config: PipelineConfig, folder: RunFolder, log: EventLog, view: ProgressView
    ) -> None:
        self.tally = Tally(stages)
        self.finishes: dict[str, Finished] = {}
        self._log, self._view, self._budget, self._folder = log, view, config.budget, folder
        self._stall = StallWatch(60.0 * config.runner.stall_minutes, self._stalled)
        self._is_found_told = False
        self.found_any = False
        # A cluster's commits are told of from a thread that looks for them.
        self._lock = threading.Lock()
        self._evidence: dict[tuple[int, str], deque[CommittedFile]] = {}

    @contextmanager
    def watching(self, partitions: int) -> Iterator[None]:
        """Show the work inside the block, and notice where it stands still."""
        self._view.begin(self.tally.names, partitions)
        try:
            with self._stall.watching():
                yield
        except EditmillError as error:
            self._log.write("run_fails", error=str(error))
            raise
        finally:
            self._view.end()

    def _stalled(self, seconds: float) -> None:
        self._log.write("stalled", seconds=round(seconds, 1))
        self._view.stalled(seconds)

    def committed(self, commit: Commit, found: bool) -> None:
        """A stage is done for a partition."""
        self._stall.moved()
        if not found:
            self.tell_found()
        self.found_any |= found
        with self._lock:
            self.tally.add(commit)
        self._keep_evidence(commit)
        if not found:
            self._log.write(
                "committed",
                stage=commit.stage,
                position=commit.position,
                partition=commit.partition,
                rows_in=commit.rows_in,
                kept=commit.kept,
                rejected=commit.rejected,
                seconds=commit.seconds,
            )
        self._view.committed(commit, found)

    def tell_found(self) -> None:
        """Log, once, what earlier starts had done of each stage."""
        if not self._is_found_told:
            self._is_found_told = True
            self._log.write("found", stages=self.tally.so_far())

    def packing(self, part: str, done: int, total: int) -> None:
        """A piece of the pack is done."""
        self._stall.moved()
        self.tell_found()
        self._log.write("packing", part=part, done=done, total=total)
        self._view.packing(part, done, total)

    def finished(self, finish: Finished, found: bool) -> None:
        """A partition went through the chain."""
        self.finishes[finish.partition] = finish

    def between_partitions(self) -> None:
        """Hold what was rejected so far against the budget.

        Raises:
            BudgetError: it is spent.
        """
        if not self._budget.reasons:
            return
        with self._lock:
            stages = self.tally.so_far()
        over = over_budget(self._budget, stages)
        if over is not None:
            position, reason = over
            raise budget_error(self._budget, stages[position], reason, self._examples(position, reason))

    def _keep_evidence(self, commit: Commit) -> None:
        for reason in self._budget.reasons:
            if commit.outcomes is not None and counted(commit.rejected, reason):
                place = (commit.position, reason)
                self._evidence.setdefault(place, deque(maxlen=_EVIDENCE)).append(commit.outcomes)

    def _examples(self, position: int, reason: str) -> list[str]:
        """Sentences of a few rows that the stage rejected for the reason, the newest first."""
        sentences: list[str] = []
        for outcomes in reversed(list(self._evidence.get((position, reason), ()))):
            for row in self._folder.read_table(outcomes).select(["reason", "sentence"]).to_pylist():
                if fnmatchcase(row["reason"], reason):
                    sentences.append(row["sentence"])
        return sentences[:_EVIDENCE]
