"""The figures of a mask report, added up row by row; only the rows to be shown are kept."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from jobs.report.mask_rows import MaskRow

SHOWN = 20
"""Rows shown of the least confident, and of the largest disagreements."""


@dataclass
class MaskFigures:
    """What a mask report tells.

    Args:
        statuses: (source, column) -> rows; the column is (mask status, "kept") or (reason, "rejected").
        fractions: edited fraction of every kept row.
        confidences: of every row that has one, by whether it was kept.
        shifts: length in pixels of each registration that was applied.
        components: (found, kept) of each pair whose recipe counted them.
        cross: (status by the recipe, status by the other) -> pairs.
        ious: of the two recipes' masks.
        recipes, others: names of the recipes met, and of those they were compared with.
        least_confident: the rows with the least confidence, ascending; `SHOWN` at most.
        disagreeing: the rows whose two masks have least in common, the largest disagreement first; `SHOWN` at most.
    """

    statuses: Counter[tuple[str | None, tuple[str, str]]] = field(default_factory=Counter)
    fractions: list[float] = field(default_factory=list)
    confidences: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    shifts: list[float] = field(default_factory=list)
    components: list[tuple[int, int]] = field(default_factory=list)
    cross: Counter[tuple[str, str]] = field(default_factory=Counter)
    ious: list[float] = field(default_factory=list)
    recipes: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    least_confident: list[MaskRow] = field(default_factory=list)
    disagreeing: list[MaskRow] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """All rows, kept and rejected."""
        return self.statuses.total()

    @property
    def kept(self) -> int:
        """Rows kept."""
        return len(self.fractions)


def figures_of(rows: Iterable[MaskRow], limit: int = SHOWN) -> MaskFigures:
    """The figures of `rows`. Ties among the rows shown are parted by key, so that the order of rows does not matter."""
    figures = MaskFigures()
    for row in rows:
        column = (str(row.status), "kept") if row.reason is None else (row.reason, "rejected")
        figures.statuses[row.source, column] += 1
        if row.reason is None and row.fraction is not None:
            figures.fractions.append(row.fraction)
        if row.recipe is not None:
            figures.recipes.add(row.recipe)
        _add_grounds(figures, row)
        if row.confidence is not None:
            figures.confidences[row.reason is None].append(row.confidence)
            figures.least_confident = _offer(figures.least_confident, row, 8 * limit, limit, _confidence)
        if row.compared is not None:
            _add_comparison(figures, row, row.compared, limit)
    figures.least_confident = heapq.nsmallest(limit, figures.least_confident, _confidence)
    figures.disagreeing = heapq.nsmallest(limit, figures.disagreeing, _agreement)
    return figures


def _add_grounds(figures: MaskFigures, row: MaskRow) -> None:
    references = row.evidence.get("references", ())
    counted = [one["components"] for one in references if "components" in one]
    if counted:
        figures.components.append((sum(one["found"] for one in counted), sum(one["kept"] for one in counted)))
    for one in references:
        motion = one.get("registration", {})
        if motion.get("applied"):
            figures.shifts.append(math.hypot(*motion["shift"]))


def _add_comparison(figures: MaskFigures, row: MaskRow, other: Any, limit: int) -> None:
    figures.cross[str(row.status), other["mask_status"]] += 1
    figures.ious.append(other["iou"])
    figures.others.add(other["recipe"])
    if other["iou"] < 1.0 or other["mask_status"] != row.status:
        figures.disagreeing = _offer(figures.disagreeing, row, 8 * limit, limit, _agreement)


def _offer(
    rows: list[MaskRow], row: MaskRow, room: int, limit: int, rank: Callable[[MaskRow], tuple[Any, ...]]
) -> list[MaskRow]:
    """`rows` with `row`, thinned to the `limit` of lowest rank whenever there are `room`."""
    rows.append(row)
    return heapq.nsmallest(limit, rows, rank) if len(rows) >= room else rows


def _confidence(row: MaskRow) -> tuple[Any, ...]:
    return row.confidence, row.key


def _agreement(row: MaskRow) -> tuple[Any, ...]:
    """How far two recipes agree; of equal overlap first those that take the pair for different things."""
    other = row.compared or {}
    return other["iou"], other["mask_status"] == row.status, row.confidence is None, row.confidence, row.key
