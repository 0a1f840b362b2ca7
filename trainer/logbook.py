"""What a run says of itself, on its first rank: log.jsonl, skipped.jsonl, validation.jsonl, boards and terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from schemas.atomic import write_bytes, writing
from trainer.config import TrainConfig
from trainer.data.batch import BadSample
from trainer.data.shards import ShardIndex
from trainer.distributed import Ranks
from trainer.reporting.boards import Board, open_boards
from trainer.reporting.progress import TrainingProgress
from trainer.reporting.run_report import RunFacts, write_run_report
from trainer.reporting.scalars import scalars, validation_name
from trainer.run_folder import LOG, SKIPPED, VALIDATION_LOG
from trainer.stages import PatternCount
from trainer.validation.bins import AREA_BINS
from trainer.validation.held_out import HeldOut
from trainer.validation.validate import Outcome, forget_after, headlines, write


class Logbook:
    """Writes one line a step. On other ranks than the first every method does nothing.

    A run that goes on drops the lines after its checkpoint first, so that each step stands there once.
    """

    def __init__(self, config: TrainConfig, first_step: int, ranks: Ranks) -> None:
        """`first_step`: steps done before."""
        self._config = config
        self._first_step = first_step
        self._ranks = ranks
        self._writes = ranks.is_first
        self._run = Path(config.output)
        self._boards: list[Board] = []
        self._counts: list[tuple[str, int]] = []
        self._console = Console(stderr=True)
        self._progress = TrainingProgress(
            self._console, config.steps, first_step, config.logging.every, shows=self._writes
        )

    def __enter__(self) -> Logbook:
        """Open what is written to. A collective.

        Raises:
            ConfigError, OutputError: the same on every rank: a board refuses, or a file cannot be written.
        """
        self._ranks.together(self._open)
        return self

    def _open(self) -> None:
        if not self._writes:
            return
        for name in (LOG, SKIPPED, VALIDATION_LOG):
            keep_steps(self._run / name, self._first_step)
        forget_after(self._run, self._first_step)
        self._boards = open_boards(self._config, self._first_step)
        self._progress.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writes:
            self._progress.stop()
            for board in self._boards:
                board.close()

    def say(self, sentence: str) -> None:
        """A line in the terminal."""
        if self._writes:
            self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def step(self, record: Mapping[str, Any], next_validation: int | None = None) -> None:
        """One finished step. Its numbers go to the boards as well; `step` counts from 1."""
        if not self._writes:
            return
        append_line(self._run / LOG, record)
        number = int(record["step"])
        if number % self._config.logging.every == 0 or number == self._config.steps:
            values = scalars(record)
            for board in self._boards:
                board.scalars(number, values)
        self._progress.step(record, next_validation)

    def doing(self, what: str) -> None:
        """The run is busy with something else than a step, such as `validating`; an empty text ends it."""
        self._progress.doing(what)

    def has_validation(self, step: int) -> bool:
        """Whether a validation of this step is written."""
        path = self._run / VALIDATION_LOG
        return path.is_file() and any(json.loads(line)["step"] == step for line in path.open(encoding="utf-8"))

    def validation(self, step: int, outcome: Outcome, held_out: HeldOut, seconds: float) -> None:
        """One validation: its folder, its line in validation.jsonl, and the boards.

        Raises:
            InputError, OutputError: as `trainer.validation.validate.write`.
        """
        if not self._writes:
            return
        strips = write(outcome, held_out, self._run, step)
        append_line(self._run / VALIDATION_LOG, {"step": step, "seconds": round(seconds, 3), **outcome.figures})
        for board in self._boards:
            board.scalars(step, {validation_name(name): value for name, value in outcome.figures.items()})
            board.pictures(step, {f"edits/{name}": picture for name, picture in strips.items()})
        self.say(f"validation at step {step:,} ({seconds:.1f} s)")
        for line in headlines(outcome.figures):
            self.say(line)

    def held_out(self, held_out: HeldOut, training: ShardIndex) -> None:
        """What the run is validated on."""
        if not self._writes:
            return
        self._count(len(held_out.loss_samples), "held-out samples for the loss")
        for name, count in held_out.counts().items():
            self._count(count, f"of them edited: {AREA_BINS[name]}")
        self._count(len(held_out.edit_samples), "held-out samples to edit")
        for sample in held_out.bad:
            self.say(f"left out {sample.key} in {sample.shard}: {sample.reason}, {sample.sentence}")
        seen = training.count_of(held_out.keys())
        if seen:
            self._count(seen, "held-out samples are trained on too: their figures are not held-out ones")

    def skipped(self, step: int, samples: Sequence[BadSample]) -> None:
        """Samples that could not be used, with why."""
        if not self._writes:
            return
        for sample in samples:
            append_line(self._run / SKIPPED, {"step": step, **asdict(sample)})
            self.say(f"skipped {sample.key} in {sample.shard}: {sample.reason}, {sample.sentence}")

    def samples(self, taken: int, left_out: Mapping[str, int], lines: Sequence[str]) -> None:
        """How many samples the shards give, how many were left out for their mask status or subset, and the lines that
        say how those taken lie in data sets and buckets."""
        reasons = ", ".join(f"{count:,} {status}" for status, count in sorted(left_out.items())) or "none"
        self._count(taken, f"samples (left out: {reasons})")
        for line in lines:
            self.say(line)

    def trainable(self, counts: Sequence[PatternCount], total: int) -> None:
        """How many parameters each pattern opened, and of how many."""
        for count in counts:
            self._count(count.parameters, f"{count.pattern}  ({count.modules} modules)")
        opened = sum(count.parameters for count in counts)
        self._count(opened, f"trainable of {total:,} in the core ({100 * opened / total:.1f} %)")

    def report(self, finished: bool) -> None:
        """Write report.html; `finished`: all steps are done.

        Raises:
            OutputError: it cannot be written.
        """
        if self._writes:
            facts = RunFacts([*self._counts, ("processes", self._ranks.world)], finished)
            self.say(f"report: {write_run_report(self._run, facts)}")

    def _count(self, number: int, what: str) -> None:
        self._counts.append((what, number))
        self.say(f"{number:>15,}  {what}")


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON object as a line."""
    with writing(path), path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def keep_steps(path: Path, last_step: int) -> None:
    """Drop the lines of steps after `last_step`, and a line that a killed run left unfinished."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n") and json.loads(line)["step"] <= last_step:
            kept.append(line)
    write_bytes(path, "".join(kept).encode())
