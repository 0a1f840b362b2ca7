"""Progress for people: a bar for each stage on a terminal, a line for each stage elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from jobs.commands.options import duration
from jobs.commits import Commit


class ProgressView(Protocol):
    """What a run shows while it works."""

    def begin(self, stages: Sequence[str], partitions: int) -> None:
        """The stages of the chain, in order, and how many partitions each will do."""

    def committed(self, commit: Commit, found: bool) -> None:
        """A stage is done for a partition; `found`: by an earlier run."""

    def packing(self, stage: str, done: int, total: int) -> None:
        """How far the pack is."""

    def stalled(self, seconds: float) -> None:
        """Nothing was committed for so long."""

    def end(self) -> None:
        """Nothing more will come."""


class NoProgress:
    """Shows nothing."""

    def begin(self, stages: Sequence[str], partitions: int) -> None:
        """Nothing."""

    def committed(self, commit: Commit, found: bool) -> None:
        """Nothing."""

    def packing(self, stage: str, done: int, total: int) -> None:
        """Nothing."""

    def stalled(self, seconds: float) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class LineProgress:
    """Plain lines, for logs and pipes: one when a stage is done with all partitions, and now and then one for each that
    is under way.

    Args:
        interval_s: least seconds between two looks at what is under way.
    """

    def __init__(self, console: Console, interval_s: float = 30.0) -> None:
        self.console, self._interval = console, interval_s
        self._names: list[str] = []
        self._partitions = 0
        self._done: list[int] = []
        self._rows: list[list[int]] = []
        self._now: list[list[int]] = []
        self._start = self._told = time.monotonic()

    def begin(self, stages: Sequence[str], partitions: int) -> None:
        """Remember what is to come."""
        self._names, self._partitions = list(stages), partitions
        self._done = [0] * len(stages)
        self._rows = [[0, 0] for _ in stages]
        self._now = [[0, 0] for _ in stages]
        self._start = self._told = time.monotonic()

    def committed(self, commit: Commit, found: bool) -> None:
        """A line once the stage's last partition is done, and lines of all that are under way once in a while."""
        place = commit.position
        self._done[place] += 1
        self._rows[place][0] += commit.rows_in
        self._rows[place][1] += commit.kept
        if not found:
            self._now[place][0] += 1
            self._now[place][1] += commit.rows_in
        now = time.monotonic()
        if self._done[place] == self._partitions:
            self._say(f"{self._names[place]}: {self._counts(place)} ({now - self._start:.1f} s)")
        if now - self._told >= self._interval:
            self._told = now
            for stage, done in enumerate(self._done):
                if 0 < done < self._partitions:
                    self._say(f"{self._names[stage]}: {self._under_way(stage, now - self._start)}")

    def _counts(self, place: int) -> str:
        rows_in, kept = self._rows[place]
        return f"{rows_in:,} rows, {kept:,} kept, {rows_in - kept:,} rejected"

    def _under_way(self, place: int, seconds: float) -> str:
        done, (partitions, rows) = self._done[place], self._now[place]
        pace = ""
        if partitions:
            left = duration(seconds / partitions * (self._partitions - done))
            pace = f", {rows / seconds:,.1f} rows/s, about {left} left"
        return f"{done:,} of {self._partitions:,} partitions, {self._counts(place)}{pace}"

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def packing(self, stage: str, done: int, total: int) -> None:
        """A line at the end of each part of the pack, and once in a while before."""
        now = time.monotonic()
        if done == total or now - self._told >= self._interval:
            self._told = now
            self._say(f"pack: {stage} {done:,}/{total:,}")

    def stalled(self, seconds: float) -> None:
        """A line."""
        self._say(_stall_sentence(seconds))

    def end(self) -> None:
        """Nothing to tidy up."""


class BarProgress:
    """A bar for each stage: partitions done, rows kept and rejected, rows a second, time remaining."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rows]}"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._tasks: list[TaskID] = []
        self._rows: list[list[int]] = []
        self._now: list[int] = []
        self._start = time.monotonic()
        self._pack: dict[str, TaskID] = {}

    def begin(self, stages: Sequence[str], partitions: int) -> None:
        """Show the empty bars."""
        self._tasks = [self._progress.add_task(name, total=partitions, rows="") for name in stages]
        self._rows = [[0, 0] for _ in stages]
        self._now = [0] * len(stages)
        self._start = time.monotonic()
        self._progress.start()

    def committed(self, commit: Commit, found: bool) -> None:
        """Move the stage's bar."""
        place = commit.position
        self._rows[place][0] += commit.rows_in
        self._rows[place][1] += commit.kept
        self._now[place] += 0 if found else commit.rows_in
        rows_in, kept = self._rows[place]
        rate = self._now[place] / max(time.monotonic() - self._start, 1e-3)
        speed = f"  {rate:,.0f} rows/s" if self._now[place] else ""
        self._progress.update(self._tasks[place], advance=1, rows=f"{kept:,} kept, {rows_in - kept:,} rejected{speed}")

    def packing(self, stage: str, done: int, total: int) -> None:
        """Move the bar of a part of the pack."""
        if stage not in self._pack:
            self._pack[stage] = self._progress.add_task(f"pack: {stage}", total=total, rows="")
        self._progress.update(self._pack[stage], completed=done)

    def stalled(self, seconds: float) -> None:
        """A line above the bars."""
        self._progress.console.print(_stall_sentence(seconds), style="yellow", highlight=False)

    def end(self) -> None:
        """Leave the bars as they stand."""
        self._progress.stop()


def _stall_sentence(seconds: float) -> str:
    return f"nothing was committed for {seconds / 60:.1f} min: a step may hang, or a partition is too large"


def progress_for(console: Console) -> ProgressView:
    """Bars where `console` is a terminal, lines elsewhere."""
    return BarProgress(console) if console.is_terminal and sys.stdout.isatty() else LineProgress(console)
