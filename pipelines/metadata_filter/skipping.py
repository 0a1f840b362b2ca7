"""Which row groups need not be read, since their statistics prove that no row of them passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipelines.metadata_filter.config import MetadataFilterConfig
from pipelines.metadata_filter.statistics import ColumnStatistics, Value
from pipelines.metadata_filter.where_bind import literal_value
from pipelines.metadata_filter.where_parse import Node, parse_where

Sense = Literal["at least", "more than", "at most", "less than", "one of"]

_SENSES: dict[str, Sense] = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than", "=": "one of"}
_MIRRORED = {">=": "<=", ">": "<", "<=": ">=", "<": ">", "=": "="}


@dataclass(frozen=True)
class Demand:
    """A necessary condition on one column: a row that does not meet it is rejected with `reason`.

    Args:
        column: as the config names it (`FileColumns.find` finds it in a file).
        values: the bound, or the values of "one of".
        missing_passes: whether a row without a value may pass all the same.
    """

    reason: str
    column: str
    sense: Sense
    values: tuple[Value, ...]
    missing_passes: bool

    def excludes(self, statistics: ColumnStatistics) -> bool:
        """Whether no row of the group can meet it."""
        if self.missing_passes and (statistics.has_nan or statistics.nulls != 0):
            return False
        if statistics.all_null:
            return True
        least, greatest = statistics.least, statistics.greatest
        if least is None or greatest is None:
            return False
        if any(isinstance(value, str) != isinstance(least, str) for value in self.values):
            return False
        return all(_beyond(self.sense, value, least, greatest) for value in self.values)


def demands_of(config: MetadataFilterConfig) -> list[Demand]:
    """The conditions that the bounds, the languages and the conjuncts of `where` put on single columns."""
    keep = config.missing == "keep"
    bounds: list[tuple[str, str, Sense, float | None]] = [
        ("aesthetic_too_low", "aesthetic", "at least", config.min_aesthetic),
        ("aesthetic_too_high", "aesthetic", "at most", config.max_aesthetic),
        ("too_narrow", "width", "at least", config.min_width),
        ("too_short", "height", "at least", config.min_height),
        ("side_too_short", "width", "at least", config.min_side),
        ("side_too_short", "height", "at least", config.min_side),
        ("watermark_too_high", "watermark", "at most", config.max_watermark),
        ("unsafe_too_high", "unsafe", "at most", config.max_unsafe),
        ("similarity_too_low", "similarity", "at least", config.min_similarity),
    ]
    demands = [
        Demand(reason, column, sense, (float(bound),), keep)
        for reason, column, sense, bound in bounds
        if bound is not None
    ]
    if config.languages:
        demands.append(Demand("other_language", "language", "one of", config.languages, keep))
    if config.where is not None:
        demands += [demand for part in _conjuncts(parse_where(config.where)) if (demand := _demand(part)) is not None]
    return demands


def reason_to_skip(demands: list[Demand], statistics: Mapping[str, ColumnStatistics]) -> str | None:
    """The reason of the first demand that no row of the group can meet, or None where the group must be read."""
    for demand in demands:
        found = statistics.get(demand.column)
        if found is not None and demand.excludes(found):
            return demand.reason
    return None


def _beyond(sense: Sense, value: Value, least: Value, greatest: Value) -> bool:
    """Whether all of [least, greatest] breaks the condition. Numbers are compared as the rows are, where a float32
    meets the bound rounded to float32: so the wider of the two readings counts."""
    if isinstance(value, str) or isinstance(least, str) or isinstance(greatest, str):
        return not str(least) <= str(value) <= str(greatest)
    with np.errstate(over="ignore"):
        low, high = sorted((value, float(np.float32(value))))
    return {
        "at least": greatest < low,
        "more than": greatest <= low,
        "at most": least > high,
        "less than": least >= high,
        "one of": greatest < low or least > high,
    }[sense]


def _conjuncts(tree: Node) -> list[Node]:
    return [part for inner in tree.parts for part in _conjuncts(inner)] if tree.kind == "and" else [tree]


def _demand(node: Node) -> Demand | None:
    """`column OP literal`, either way round, as a demand; None for anything else."""
    if node.kind not in _SENSES:
        return None
    left, right = node.parts
    kind = node.kind
    if right.kind == "column":
        left, right, kind = right, left, _MIRRORED[kind]
    number = literal_value(right)
    value: Value | None = right.value if right.kind == "text" else number
    if left.kind != "column" or value is None or (isinstance(value, str) and kind != "="):
        return None
    return Demand("where_not_met", left.value, _SENSES[kind], (value,), False)
