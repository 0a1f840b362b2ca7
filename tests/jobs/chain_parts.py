"""A small source and small steps to run chains with."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from jobs.commits import Commit, Finished
from pipelines.dataset_step import DatasetStep
from pipelines.source import Partition, Source
from pipelines.step import RowStep, Step, StepResult
from schemas.config import Config
from schemas.errors import InputError, RowRejected
from schemas.outcomes import rejections


class NumbersConfig(Config):
    """Rows and partitions."""

    partitions: int = 4
    rows: int = 10


class Numbers(Source[NumbersConfig]):
    """Partitions of numbered rows with an image column; every seventh row cannot be read."""

    name = "numbers"
    version = 1
    config_class = NumbersConfig

    def partitions(self) -> Sequence[Partition]:
        return [
            Partition(f"{n:05d}-{n:08x}", "nowhere", n * self.config.rows, (n + 1) * self.config.rows)
            for n in range(self.config.partitions)
        ]

    def read(self, partition: Partition) -> StepResult:
        numbers = range(partition.start, partition.stop)
        good = [n for n in numbers if n % 7 != 3]
        bad = [key_of(n) for n in numbers if n % 7 == 3]
        image = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
        kept = pa.table(
            {
                "key": pa.array([key_of(n) for n in good], pa.string()),
                "number": pa.array(good, pa.int64()),
                "image": pa.array([{"bytes": bytes([n % 256]) * 1000, "path": f"{n}.png"} for n in good], image),
            }
        )
        sentences = ["it is 3 modulo 7"] * len(bad)
        return StepResult(kept, rejections(self.name, self.version, bad, ["unreadable"] * len(bad), sentences))

    def columns(self) -> tuple[str, ...]:
        return ("key", "number", "image")


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


class SquareConfig(Config):
    """What to reject."""

    modulo: int = 5
    pause: float = 0.0
    fail_at: int | None = None


class Square(RowStep[SquareConfig]):
    """Adds the square; rejects multiples of `modulo`."""

    name: ClassVar[str] = "square"
    version = 1
    config_class = SquareConfig
    needs = ("number",)
    adds = pa.schema([pa.field("square", pa.int64()), pa.field("tags", pa.list_(pa.string()))])

    def process_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        time.sleep(self.config.pause)
        if row["number"] == self.config.fail_at:
            raise InputError("number", row["number"], "must not be this one", "Change fail_at.")
        if row["number"] % self.config.modulo == 0:
            raise RowRejected("multiple", f"{row['number']} is a multiple of {self.config.modulo}")
        return {"square": row["number"] ** 2, "tags": ["odd"] if row["number"] % 2 else []}


class DiesConfig(Config):
    """How often, and where that is remembered."""

    folder: str
    times: int


class Dies(Step[DiesConfig]):
    """Ends its process at the second partition, so many times."""

    name = "dies"
    version = 1
    config_class = DiesConfig
    needs = ("number",)
    adds = pa.schema([])

    def process(self, table: pa.Table) -> StepResult:
        deaths = Path(self.config.folder) / "deaths"
        if (
            table["number"][0].as_py() // 10 == 1
            and (deaths.stat().st_size if deaths.exists() else 0) < self.config.times
        ):
            with deaths.open("a") as stream:
                stream.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return StepResult(table, rejections(self.name, 1, [], [], []))


class DiesWithModel(Dies):
    """The same in an actor."""

    name = "dies_with_model"
    holds_model = True


class OffsetConfig(Config):
    """What to add."""

    offset: int = 1


class Offset(Step[OffsetConfig]):
    """Replaces the square by square + offset, with something loaded in `setup`."""

    name = "offset"
    version = 1
    config_class = OffsetConfig
    needs = ("square",)
    adds = pa.schema([pa.field("square", pa.int64()), pa.field("process", pa.bool_())])
    holds_model = True

    def setup(self) -> None:
        self.loaded = os.getpid()

    def process(self, table: pa.Table) -> StepResult:
        rows = [value + self.config.offset for value in table["square"].to_pylist()]
        alive = [self.loaded == os.getpid()] * len(rows)
        kept = table.set_column(table.column_names.index("square"), "square", pa.array(rows, pa.int64()))
        return StepResult(
            kept.append_column("process", pa.array(alive, pa.bool_())), rejections("offset", 1, [], [], [])
        )


class TopConfig(Config):
    """How many."""

    count: int = 10


class Top(DatasetStep[TopConfig]):
    """Keeps the rows with the largest squares of all partitions."""

    name = "top"
    version = 1
    config_class = TopConfig
    needs = ("square",)
    adds = pa.schema([])
    decisions: ClassVar[list[int]] = []
    """The bounds decided in this process."""

    def survey(self, table: pa.Table) -> pa.Table:
        return table.select(["square"])

    def decide(self, surveys: pa.Table) -> pa.Table:
        bound = sorted(surveys["square"].to_pylist())[-self.config.count :][0]
        Top.decisions.append(bound)
        return pa.table({"bound": [bound]})

    def part(self, table: pa.Table, decision: pa.Table) -> StepResult:
        bound = decision["bound"][0].as_py()
        low = [
            key for key, square in zip(*table.select(["key", "square"]).columns, strict=True) if square.as_py() < bound
        ]
        keys = [key.as_py() for key in low]
        high = pc.greater_equal(table["square"], bound)
        sentences = [f"the square is under {bound}"] * len(keys)
        return StepResult(
            table.filter(high), rejections(self.name, self.version, keys, ["not_at_the_top"] * len(keys), sentences)
        )


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.commits: list[tuple[Commit, bool]] = []
        self.finishes: list[tuple[Finished, bool]] = []

    def committed(self, commit: Commit, found: bool) -> None:
        self.commits.append((commit, found))

    def finished(self, finish: Finished, found: bool) -> None:
        self.finishes.append((finish, found))

    def between_partitions(self) -> None:
        """Never ends the run."""


def tree(folder: Path, *under: str) -> dict[str, bytes]:
    """Name -> content of the files in the named sub-folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in under
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }
