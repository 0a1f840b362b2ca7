"""What a run says of itself, on its first rank: log.jsonl, skipped.jsonl, TensorBoard and the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from schemas.atomic import write_bytes, writing
from trainer.config import TrainConfig
from trainer.data.loader import BadSample
from trainer.run_folder import LOG, SKIPPED, TENSORBOARD
from trainer.stages import PatternCount


class Logbook:
    """Writes one line a step. On other ranks than the first every method does nothing.

    A run that goes on drops the lines after its checkpoint first, so that each step stands there once.
    """

    def __init__(self, config: TrainConfig, first_step: int, writes: bool) -> None:
        """`first_step`: steps done before."""
        self._config = config
        self._first_step = first_step
        self._writes = writes
        self._run = Path(config.output)
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("[bold]train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not writes or not self._console.is_terminal,
        )

    def __enter__(self) -> Logbook:
        if self._writes:
            for name in (LOG, SKIPPED):
                keep_steps(self._run / name, self._first_step)
            self._board = SummaryWriter(str(self._run / TENSORBOARD), purge_step=self._first_step + 1)
            self._progress.start()
            self._task = self._progress.add_task("", total=self._config.steps, completed=self._first_step)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writes:
            self._progress.stop()
            self._board.close()

    def say(self, sentence: str) -> None:
        """A line in the terminal."""
        if self._writes:
            self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def step(self, record: Mapping[str, Any]) -> None:
        """One finished step. Numbers go to TensorBoard as well; `step` counts from 1."""
        if not self._writes:
            return
        append_line(self._run / LOG, record)
        number = int(record["step"])
        if number % self._config.logging.every == 0 or number == self._config.steps:
            for name, value in record.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(f"train/{name}", value, number)
        line = (
            f"loss {record['loss']:.4f}  lr {record['learning_rate']:.2e}  {record['samples_per_second']:.2f} samples/s"
        )
        self._progress.update(self._task, completed=number, description=line)
        if self._progress.disable and (number % self._config.logging.every == 0 or number == self._config.steps):
            self._console.print(f"step {number}/{self._config.steps}  {line}", highlight=False, soft_wrap=True)

    def skipped(self, step: int, samples: Sequence[BadSample]) -> None:
        """Samples that could not be used, with why."""
        if not self._writes:
            return
        for sample in samples:
            append_line(self._run / SKIPPED, {"step": step, **asdict(sample)})
            self.say(f"skipped {sample.key} in {sample.shard}: {sample.reason}, {sample.sentence}")

    def samples(self, taken: int, left_out: Mapping[str, int]) -> None:
        """How many samples the shards give, and how many were left out for their mask status or subset."""
        reasons = ", ".join(f"{count:,} {status}" for status, count in sorted(left_out.items())) or "none"
        self.say(f"{taken:>15,}  samples (left out: {reasons})")

    def trainable(self, counts: Sequence[PatternCount], total: int) -> None:
        """How many parameters each pattern opened, and of how many."""
        for count in counts:
            self.say(f"{count.parameters:>15,}  {count.pattern}  ({count.modules} modules)")
        opened = sum(count.parameters for count in counts)
        self.say(f"{opened:>15,}  trainable of {total:,} in the core ({100 * opened / total:.1f} %)")


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
