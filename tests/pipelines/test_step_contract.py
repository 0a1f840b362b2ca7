"""A wrong step fails when its class is made, and a step that loses rows is caught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

from pipelines.step import RowStep, Step, StepResult
from schemas.config import Config
from schemas.errors import ContractError, RowRejected, SchemaError
from schemas.outcomes import no_rejections, rejections


class NoConfig(Config):
    factor: int = 2


class Multiply(RowStep[NoConfig]):
    name = "multiply"
    version = 1
    config_class = NoConfig
    needs = ("number",)
    adds = pa.schema([pa.field("product", pa.int64())])

    def process_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        if row["number"] < 0:
            raise RowRejected("negative", f"{row['number']} is under 0")
        return {"product": row["number"] * self.config.factor}


def table(numbers: list[int]) -> pa.Table:
    keys = [f"k{position}" for position in range(len(numbers))]
    return pa.table({"key": pa.array(keys, pa.string()), "number": pa.array(numbers, pa.int64())})


@pytest.mark.parametrize("numbers", [[], [1, 2], [-1, 2, -3], [-1]])
def test_rows_in_are_rows_kept_and_rejected(numbers: list[int]) -> None:
    result = Multiply(NoConfig())(table(numbers))
    assert result.kept["product"].to_pylist() == [2 * n for n in numbers if n >= 0]
    assert result.rejected["sentence"].to_pylist() == [f"{n} is under 0" for n in numbers if n < 0]


def test_result_does_not_depend_on_batches() -> None:
    numbers = [3, -1, 4, -1, 5, -9, 2, 6]
    whole = Multiply(NoConfig())(table(numbers))
    parts = [Multiply(NoConfig())(table(numbers).slice(start, 3)) for start in range(0, 8, 3)]
    assert pa.concat_tables([part.kept for part in parts]).equals(whole.kept)
    assert pa.concat_tables([part.rejected for part in parts]).equals(whole.rejected)


def test_replacing_a_column_keeps_its_place() -> None:
    class Replace(Multiply):
        name = "replace"
        adds = pa.schema([pa.field("number", pa.float32())])

        def process_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"number": row["number"] / 2}

    kept = Replace(NoConfig())(table([1, 2])).kept
    assert kept.column_names == ["key", "number"] and kept["number"].to_pylist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"name": None}, "name.*must be declared"),
        ({"name": "Not Snake"}, "snake_case"),
        ({"version": 0}, "at least 1"),
        ({"needs": ["number"]}, "needs.*tuple"),
        ({"adds": pa.schema([pa.field("key", pa.string())])}, "must not hold 'key'"),
        ({"config_class": dict}, "must derive from"),
    ],
)
def test_wrong_declarations_fail_when_the_class_is_made(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        type("Wrong", (Multiply,), attributes)


def test_a_step_without_its_method_fails_when_the_class_is_made() -> None:
    declared = {"name": "n", "version": 1, "config_class": NoConfig, "needs": (), "adds": pa.schema([])}
    with pytest.raises(ContractError, match="process"):
        type("NoMethod", (Step,), declared)
    with pytest.raises(ContractError, match="process_row"):
        type("NoRowMethod", (RowStep,), declared)


def wrong_step(result: StepResult) -> Step[NoConfig]:
    class Wrong(Step[NoConfig]):
        name = "wrong"
        version = 1
        config_class = NoConfig
        needs = ()
        adds = pa.schema([])

        def process(self, table: pa.Table) -> StepResult:
            return result

    return Wrong(NoConfig())


def test_lost_reordered_and_foreign_rows_are_caught() -> None:
    rows = table([1, 2])
    for kept, rejected in (
        (rows.slice(0, 1), no_rejections()),
        (rows.take([1, 0]), no_rejections()),
        (rows.slice(0, 1), rejections("wrong", 1, ["other"], ["r"], ["s"])),
        (pa.concat_tables([rows, rows]), no_rejections()),
    ):
        with pytest.raises(ContractError):
            wrong_step(StepResult(kept, rejected))(rows)


def test_a_declared_column_that_is_not_added_is_caught() -> None:
    class Forgetful(Step[NoConfig]):
        name = "forgetful"
        version = 1
        config_class = NoConfig
        needs = ()
        adds = pa.schema([pa.field("score", pa.float32())])

        def process(self, table: pa.Table) -> StepResult:
            return StepResult(table, no_rejections())

    with pytest.raises(ContractError, match="adds 'score'"):
        Forgetful(NoConfig())(table([1]))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(SchemaError, match="needs column 'number'"):
        Multiply(NoConfig())(pa.table({"key": ["a"]}))


def test_fingerprint_follows_config_and_version() -> None:
    class Newer(Multiply):
        version = 2

    assert Multiply(NoConfig()).fingerprint() == Multiply(NoConfig()).fingerprint()
    prints = {Multiply(NoConfig()).fingerprint(), Multiply(NoConfig(factor=3)).fingerprint()}
    assert len(prints | {Newer(NoConfig()).fingerprint()}) == 3
