"""The source contract: where rows come from, cut into partitions that are read, and done again, one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, final

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.step import StepResult
from schemas.atomic import fingerprint
from schemas.config import Config
from schemas.outcomes import rejections
from schemas.record import RecordSchema

SourceConfigT = TypeVar("SourceConfigT", bound=Config)


@dataclass(frozen=True)
class Partition:
    """A piece of the input that is read, worked on and committed as one.

    Args:
        name: `00000-FINGERPRINT`: the position in the input, and a hash of what is read (path, range, size, and
            time of change or content hash), so that a changed input has another name.
        path: the file that is read.
        start, stop: the range read of it, in the source's own units (row groups, lines), stop exclusive.
    """

    name: str
    path: str
    start: int
    stop: int


class Source(ABC, Generic[SourceConfigT]):
    """Base of every source.

    Class variables:
        name: snake_case, unique; what a pipeline config calls the source.
        version: integer >= 1; raise it when the same input would give another table.
        config_class: the source's typed config.
        provides: the record that its tables are, so that a chain can be checked before a row is read; None where only
            reading tells.
        reads_ahead: its tables are small, and `read` may run in two other threads while the former table is written.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    config_class: ClassVar[type[Config]]
    provides: ClassVar[RecordSchema | None] = None
    reads_ahead: ClassVar[bool] = False

    def __init__(self, config: SourceConfigT) -> None:
        self.config = config

    @abstractmethod
    def partitions(self) -> Sequence[Partition]:
        """The partitions, in input order. Reads no rows.

        Raises:
            InputError, SchemaError: the input is missing, is no such file, is empty, or lacks a column.
        """

    @abstractmethod
    def read(self, partition: Partition) -> StepResult:
        """The rows of one partition, in input order; rows that cannot be read are rejected with a reason."""

    def columns(self) -> tuple[str, ...] | None:
        """The columns that every table read has at least, or None where only reading tells."""
        return None if self.provides is None else tuple(self.provides.fields.names)

    def outlook(self, partitions: Sequence[Partition]) -> Mapping[str, int]:
        """What metadata alone tells of reading the partitions, as figures with their names; reads no rows."""
        return {}

    @final
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change whenever the same partition would be read otherwise."""
        return fingerprint(self.identity())

    def identity(self) -> dict[str, Any]:
        """What decides the table read from a given partition, as JSON-able values."""
        return {"source": self.name, "version": self.version, "config": self.config.as_json()}


def reject_repeats(source: Source[Any], table: pa.Table) -> StepResult:
    """Keep the first row of each key in `table`, and reject those that repeat one (reason `repeated_row`).

    Within a partition keys are then unique, which the step contract relies on; repeats across partitions are met when
    shards are packed.
    """
    positions = pa.array(range(table.num_rows), pa.int64())
    first = pa.table({"key": table["key"], "position": positions}).group_by("key").aggregate([("position", "min")])
    is_first = pc.is_in(positions, value_set=first["position_min"].combine_chunks())
    repeats = table.filter(pc.invert(is_first))
    repeated = repeats["key"].to_pylist()
    sources = repeats["source"].to_pylist() if "source" in table.column_names else None
    sentence = "the same content stands earlier in this partition"
    return StepResult(
        table.filter(is_first),
        rejections(
            source.name,
            source.version,
            repeated,
            ["repeated_row"] * len(repeated),
            [sentence] * len(repeated),
            sources,
        ),
    )
