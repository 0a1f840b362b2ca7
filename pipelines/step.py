"""The step contract: a step is a value that takes an Arrow table and returns kept rows and rejected rows.

The same step runs in a unit test, in one process, and in a pool of workers; it knows nothing of where it runs.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar, final

import pyarrow as pa
import pyarrow.compute as pc

from schemas.atomic import fingerprint
from schemas.config import Config
from schemas.errors import ContractError, RowRejected, SchemaError
from schemas.outcomes import OUTCOME, rejections

StepConfigT = TypeVar("StepConfigT", bound=Config)


@dataclass(frozen=True)
class StepResult:
    """What became of a batch.

    Args:
        kept: rows that go on, in input order, with the step's columns added.
        rejected: one `Outcome` row for each row that does not.
        counted: reason -> rows that do not go on and have no row in `rejected`. Only for sources that read so many
            rows that a row for each would fill disks; steps reject row by row.
        figures: what else there is to tell, as numbers that add up over batches.
    """

    kept: pa.Table
    rejected: pa.Table
    counted: Mapping[str, int] = dataclasses.field(default_factory=dict)
    figures: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Of the input: kept, rejected and counted."""
        return int(self.kept.num_rows) + int(self.rejected.num_rows) + sum(self.counted.values())


class Step(ABC, Generic[StepConfigT]):
    """Base of every step. A subclass declares the five class variables and `process`; a wrong one fails when made.

    Class variables:
        name: snake_case, unique; what a pipeline config calls the step.
        version: integer >= 1; raise it when the same input would give another output.
        config_class: the step's typed config.
        needs: columns the input must have ("key" is always needed).
        adds: the columns the step adds or replaces, with their types.
        holds_model: True where `setup` loads something heavy, so that a runner keeps the step alive between batches.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    config_class: ClassVar[type[Config]]
    needs: ClassVar[tuple[str, ...]]
    adds: ClassVar[pa.Schema]
    holds_model: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not cls.__dict__.get("abstract_step", False):
            _check_declaration(cls)

    def __init__(self, config: StepConfigT) -> None:
        """Keep the config; load nothing (that is `setup`)."""
        if not isinstance(config, self.config_class):
            raise ContractError(
                f"{type(self).__name__}(config)",
                type(config).__name__,
                f"must be a {self.config_class.__name__}",
                "Make it with parse_config.",
            )
        self.config = config

    @property
    def computes_model(self) -> bool:
        """Whether its model computes in the worker itself, which then wants a GPU where there is one."""
        return self.holds_model

    def preflight(self) -> None:
        """Look, before any row is read, whether the step can work at all (a model folder, an endpoint).

        Raises:
            EditmillError: what is missing and how to mend it.
        """

    def setup(self) -> None:
        """Load models. Called once in each process, before the first `process`."""

    @abstractmethod
    def process(self, table: pa.Table) -> StepResult:
        """Do the work on one batch. Called through `__call__`, which holds the contract."""

    def identity(self) -> dict[str, Any]:
        """What decides the step's output for a given input, as JSON-able values."""
        return {"step": self.name, "version": self.version, "config": self.config.as_json()}

    @final
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change whenever the step's output may."""
        return fingerprint(self.identity())

    @final
    def __call__(self, table: pa.Table) -> StepResult:
        """`process` with the contract held on both sides.

        Raises:
            SchemaError: the table lacks a column that the step needs.
            ContractError: the step lost, invented, repeated or reordered a row, or did not add what it declares.
        """
        missing = [column for column in ("key", *self.needs) if column not in table.column_names]
        if missing:
            raise SchemaError(
                f"step '{self.name}' needs column '{missing[0]}'",
                table.column_names,
                "the column is missing",
                "Put the step that adds it before this one, or correct the input.",
            )
        result = self.process(table)
        _check_conservation(self, table, result)
        return replace(result, rejected=_with_sources(table, result.rejected))


class RowStep(Step[StepConfigT]):
    """A step that looks at one row at a time. A subclass declares as for `Step` and gives `process_row`."""

    abstract_step: ClassVar[bool] = True

    @abstractmethod
    def process_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values of the columns in `adds` for one row.

        Args:
            row: "key" and the columns in `needs`, as Python values.

        Raises:
            RowRejected: the row does not go on.
        """

    @final
    def process(self, table: pa.Table) -> StepResult:
        """Collect `process_row` over the table."""
        kept: list[int] = []
        added: list[Mapping[str, Any]] = []
        rejected: list[tuple[str, RowRejected]] = []
        view = table.select(list(dict.fromkeys(("key", *self.needs))))
        for position in range(view.num_rows):
            # Row by row, so that only one row's images are ever held as Python bytes.
            row = view.slice(position, 1).to_pylist()[0]
            try:
                added.append(self.process_row(row))
            except RowRejected as rejection:
                rejected.append((row["key"], rejection))
            else:
                kept.append(position)
        result = table.take(pa.array(kept, pa.int64())) if rejected else table
        for field in self.adds:
            result = set_column(result, field, pa.array([row[field.name] for row in added], field.type))
        outcomes = rejections(
            self.name,
            self.version,
            [key for key, _ in rejected],
            [rejection.reason for _, rejection in rejected],
            [rejection.sentence for _, rejection in rejected],
            evidence=[rejection.evidence for _, rejection in rejected],
        )
        return StepResult(result, outcomes)


def set_column(table: pa.Table, field: pa.Field, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """`table` with the column `field` added, or replaced where it stands."""
    if field.name in table.column_names:
        return table.set_column(table.column_names.index(field.name), field, values)
    return table.append_column(field, values)


def _with_sources(table: pa.Table, rejected: pa.Table) -> pa.Table:
    """`rejected` with the `source` that each row has in `table`, where the step did not say it."""
    if not rejected.num_rows or "source" not in table.column_names or table["source"].type != pa.string():
        return rejected
    places = pc.index_in(rejected["key"], value_set=table["key"].combine_chunks())
    said = rejected["source"] if "source" in rejected.column_names else pa.nulls(rejected.num_rows, pa.string())
    return set_column(rejected, OUTCOME.fields.field("source"), pc.coalesce(said, table["source"].take(places)))


def _check_declaration(cls: type[Step[Any]]) -> None:
    for method in ("process", "process_row"):
        if getattr(getattr(cls, method, None), "__isabstractmethod__", False):
            raise ContractError(
                f"{cls.__name__}.{method}", None, "must be given", "Write the method that does the work."
            )
    rules: dict[str, tuple[type, str]] = {
        "name": (str, 'name = "my_step"'),
        "version": (int, "version = 1"),
        "config_class": (type, "config_class = MyStepConfig"),
        "needs": (tuple, 'needs = ("target",)'),
        "adds": (pa.Schema, 'adds = pa.schema([pa.field("score", pa.float32())])'),
    }
    for attribute, (kind, example) in rules.items():
        value = getattr(cls, attribute, None)
        if not isinstance(value, kind):
            raise ContractError(
                f"{cls.__name__}.{attribute}",
                value,
                f"must be declared as a {kind.__name__}",
                f"Write in the class body: {example}",
            )
    if not cls.name.isidentifier() or cls.name != cls.name.lower():
        raise ContractError(f"{cls.__name__}.name", cls.name, "must be snake_case", 'Write for example name = "masks".')
    if cls.version < 1:
        raise ContractError(f"{cls.__name__}.version", cls.version, "must be at least 1", "Start with version = 1.")
    if not issubclass(cls.config_class, Config):
        raise ContractError(
            f"{cls.__name__}.config_class",
            cls.config_class.__name__,
            "must derive from schemas.config.Config",
            "Derive it, so that unknown keys are refused.",
        )
    if "key" in cls.adds.names:
        raise ContractError(
            f"{cls.__name__}.adds", cls.adds.names, "must not hold 'key'", "A step never renames a row."
        )


def _check_conservation(step: Step[Any], table: pa.Table, result: StepResult) -> None:
    rows_in, rows_out = table.num_rows, result.kept.num_rows + result.rejected.num_rows
    if rows_in != rows_out:
        raise ContractError(
            f"step '{step.name}'",
            {"in": rows_in, "kept": result.kept.num_rows, "rejected": result.rejected.num_rows},
            "rows in must equal rows kept + rows rejected",
            "Return every row exactly once.",
        )
    OUTCOME.check(result.rejected)
    for field in step.adds:
        if field.name not in result.kept.column_names or result.kept[field.name].type != field.type:
            raise ContractError(
                f"step '{step.name}' adds '{field.name}'",
                result.kept.column_names,
                f"the kept rows must have it as {field.type}",
                "Add the column, or correct `adds`.",
            )
    is_rejected = pc.is_in(table["key"], value_set=result.rejected["key"].combine_chunks())
    expected = table["key"].filter(pc.invert(is_rejected))
    if expected.to_pylist() != result.kept["key"].to_pylist():
        raise ContractError(
            f"step '{step.name}'",
            f"{rows_in} rows",
            "the kept keys must be the input keys without the rejected ones, in input order",
            "Keep the order, and reject under the row's own key.",
        )
