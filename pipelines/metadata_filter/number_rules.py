"""Rules on one numeric column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from pipelines.metadata_filter.columns import SIZES, FileColumns
from pipelines.metadata_filter.sentences import Sentences, say
from pipelines.metadata_filter.sql import float_literal
from pipelines.metadata_filter.statistics import ColumnStatistics


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        reason: of the rows that fail it.
        passes: SQL, true or false for every row that passes the rules before it; elsewhere null is as good as false.
        sentences: for rows that fail it.
        columns: of the file that `passes` uses.
    """

    reason: str
    passes: str
    sentences: Sentences
    columns: tuple[str, ...]


class Number:
    """A numeric column in a query. It is compared in the column's own type: 0.1 as float32 meets an inclusive 0.1.

    Args:
        name: the `ImageRecord` column.
        strict: a row without a value is rejected, by the rule `is_present`, which comes before all others.
        statistics: of the column over all rows of the query, or None.
    """

    def __init__(self, columns: FileColumns, name: str, strict: bool, statistics: ColumnStatistics | None) -> None:
        self.name, self.strict, self._statistics = name, strict, statistics
        self.column = columns.names[name]
        found = columns.types[self.column]
        self.value = columns.sql(self.column)
        self.whole = pa.types.is_integer(found)
        self.floating = True
        self.literal: Callable[[float], str] = float_literal
        if name in SIZES and found in (pa.int32(), pa.int64()):
            self.floating = False
            self.literal = str
        elif found == pa.float32():
            self.literal = _single_literal
        elif found != pa.float64():
            self.value = f"{self.value}::DOUBLE"

    @property
    def is_present(self) -> str:
        """True for a value, false for null and NaN."""
        return f"coalesce(NOT isnan({self.value}), false)" if self.floating else f"({self.value} IS NOT NULL)"

    def passes(self, condition: str) -> str:
        """`condition` on this column, which a row without a value passes: that has a rule of its own."""
        if self.strict:
            return f"({condition})"
        gap = f" OR isnan({self.value})" if self.floating else ""
        return f"coalesce(({condition}){gap}, true)"

    def within(self, low: float, high: float) -> str:
        """Both inclusive."""
        return f"{self.value} BETWEEN {self.literal(low)} AND {self.literal(high)}"

    @property
    def always_present(self) -> bool:
        """Whether the statistics prove that no row is without a value."""
        known = self._statistics
        return known is not None and known.nulls == 0 and not known.has_nan

    def always_within(self, low: float, high: float) -> bool:
        """Whether the statistics prove that every value, where there is one, lies in [low, high]."""
        known = self._statistics
        if known is None or not isinstance(known.least, float) or not isinstance(known.greatest, float):
            return False
        return low <= known.least and known.greatest <= high

    def rule(self, reason: str, passes: str, *sentence: str) -> Rule:
        """A rule on this column alone.

        Args:
            sentence: as for `say`.
        """
        return Rule(reason, passes, say(*sentence), (self.column,))


def _single_literal(value: float) -> str:
    return float_literal(value, "FLOAT")
