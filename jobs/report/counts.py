"""Counts of every step: rows in = rows kept + rows rejected, by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from jobs.commits import Commit
from schemas.errors import ContractError


@dataclass(frozen=True)
class StageCounts:
    """What a stage did with all its rows.

    Args:
        name: of the source or step; "pack" for the pack.
        rows_in, kept: rows.
        rejected: reason -> rows; rows_in = kept + their sum.
        figures: what else there is to tell.
    """

    name: str
    rows_in: int
    kept: int
    rejected: dict[str, int]
    figures: dict[str, int] = field(default_factory=dict)

    @property
    def rows_rejected(self) -> int:
        """Over all reasons."""
        return sum(self.rejected.values())


class Tally:
    """Adds up commits, without keeping them.

    Args:
        names: of the stages, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.partitions: dict[str, dict[int, tuple[int, int]]] = {}
        """Partition -> stage position -> (rows in, rows kept)."""
        self.seconds = [0.0] * len(self.names)
        """Of work on one core in each stage, over all partitions."""
        self.bytes = 0
        """Of all that was committed."""
        self._rows: list[Counter[str]] = [Counter() for _ in names]
        self._rejected: list[Counter[str]] = [Counter() for _ in names]
        self._figures: list[Counter[str]] = [Counter() for _ in names]

    def add(self, commit: Commit) -> None:
        """Count a commit; each (partition, stage) once."""
        self.partitions.setdefault(commit.partition, {})[commit.position] = (commit.rows_in, commit.kept)
        self._rows[commit.position].update(partitions=1, rows_in=commit.rows_in, kept=commit.kept)
        self._rejected[commit.position].update(commit.rejected)
        self._figures[commit.position].update(commit.figures)
        self.seconds[commit.position] += commit.seconds
        self.bytes += sum(file.bytes for file in commit.files)

    def so_far(self) -> list[dict[str, Any]]:
        """For each stage: its name, partitions, rows in, rows kept, and rejected rows by reason; stages may differ."""
        return [
            {
                "name": name,
                **{quantity: rows[quantity] for quantity in ("partitions", "rows_in", "kept")},
                "rejected": dict(sorted(rejected.items())),
            }
            for name, rows, rejected in zip(self.names, self._rows, self._rejected, strict=True)
        ]

    def counts(self) -> list[StageCounts]:
        """The counts of each stage over all partitions.

        Raises:
            ContractError: the rows that one stage kept are not the rows that the next one got.
        """
        counts = [
            StageCounts(stage["name"], stage["rows_in"], stage["kept"], stage["rejected"], dict(figures))
            for stage, figures in zip(self.so_far(), self._figures, strict=True)
        ]
        check_chain(counts)
        return counts


def check_chain(counts: Sequence[StageCounts]) -> None:
    """Check that no row vanished in a stage or between two.

    Raises:
        ContractError: one did.
    """
    for count in counts:
        if count.rows_in != count.kept + count.rows_rejected:
            raise ContractError(f"counts of '{count.name}'", count, "must add up", "Report this defect of editmill.")
    for before, after in pairwise(counts):
        if before.kept != after.rows_in:
            raise ContractError(
                f"rows between '{before.name}' and '{after.name}'",
                {"kept": before.kept, "in": after.rows_in},
                "must be equal",
                "Report this defect of editmill.",
            )


def counts_rows(counts: Sequence[StageCounts]) -> list[tuple[str, str, str, str, str]]:
    """(step, in, kept, rejected, reasons) as texts, one a stage; what tables show."""
    return [
        (
            count.name,
            f"{count.rows_in:,}",
            f"{count.kept:,}",
            f"{count.rows_rejected:,}",
            ", ".join(f"{reason} {rows:,}" for reason, rows in _largest_first(count.rejected)),
        )
        for count in counts
    ]


def _largest_first(rejected: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
