"""The step `quantile`: of all rows, the share with the highest or lowest values in a column goes on."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.dataset_step import DatasetStep
from pipelines.step import StepResult
from schemas.config import Config
from schemas.errors import SchemaError
from schemas.outcomes import rejections


class QuantileConfig(Config):
    """Config of the step `quantile`."""

    column: str = Field(default="aesthetic", min_length=1)
    """A column of numbers."""
    share: float = Field(gt=0.0, le=1.0)
    """Share of the rows with a value that is kept, 0..1: 0.1 keeps a tenth, rounded up to a whole row."""
    keep: Literal["highest", "lowest"] = "highest"
    """Which end is kept. Rows equal to the last one kept are kept too."""


class Quantile(DatasetStep[QuantileConfig]):
    """Rejects rows beyond the bound that parts the share from the rest, over the whole data set.

    Reasons: `COLUMN_outside_share`, `COLUMN_missing` (null or not a number). All values are in memory at once where the
    bound is decided, 8 bytes each.
    """

    name: ClassVar[str] = "quantile"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = QuantileConfig
    needs: ClassVar[tuple[str, ...]] = ("aesthetic",)
    adds: ClassVar[pa.Schema] = pa.schema([])

    def __init__(self, config: QuantileConfig) -> None:
        super().__init__(config)
        # What this very step needs is the column its config names.
        vars(self)["needs"] = (config.column,)

    def survey(self, table: pa.Table) -> pa.Table:
        """The values."""
        return pa.table({"value": self._values(table).drop_null()})

    def decide(self, surveys: pa.Table) -> pa.Table:
        """The bound, inclusive; null where no row has a value."""
        values = np.sort(surveys["value"].to_numpy())
        count = math.ceil(self.config.share * len(values))
        bound = None
        if len(values):
            bound = float(values[-count] if self.config.keep == "highest" else values[count - 1])
        return pa.table({"bound": pa.array([bound], pa.float64()), "rows": [len(values)]})

    def part(self, table: pa.Table, decision: pa.Table) -> StepResult:
        """Keep the rows within the bound."""
        values, bound = self._values(table), decision["bound"][0].as_py()
        column, keep, share = self.config.column, self.config.keep, self.config.share
        compare = pc.greater_equal if keep == "highest" else pc.less_equal
        stays = pc.fill_null(compare(values, pa.scalar(bound, pa.float64())), False)
        gone = table["key"].filter(pc.invert(stays)).to_pylist()
        measured = values.filter(pc.invert(stays)).to_pylist()
        of_all = f"the {keep} {share:.4g} of {decision['rows'][0].as_py():,} rows"
        outcomes = rejections(
            self.name,
            self.version,
            gone,
            [f"{column}_missing" if value is None else f"{column}_outside_share" for value in measured],
            [
                f"{column} is missing" if value is None else f"{column} {value:.6g} is beyond {bound:.6g}, {of_all}"
                for value in measured
            ],
            evidence=[{column: value, "bound": bound} for value in measured],
        )
        return StepResult(table.filter(stays) if gone else table, outcomes)

    def _values(self, table: pa.Table) -> pa.ChunkedArray:
        """The column as float64, null where it is not a number."""
        column = table[self.config.column]
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise SchemaError(self.config.column, str(column.type), "must be a column of numbers", "Name another one.")
        values = column.cast(pa.float64())
        return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
