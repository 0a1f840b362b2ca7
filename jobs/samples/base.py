"""What every place that holds samples can do: count them, say what it knows of each, and hand out chosen rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]
"""One sample: the columns of its record, as Python values; images as {"bytes": ..., "path": ...}."""


@dataclass(frozen=True)
class Unreadable:
    """A sample that makes no row: what to call it, and a sentence that says why."""

    name: str
    sentence: str


class Samples(ABC):
    """A place that holds samples, in an order that stays the same.

    Args:
        name: heading of a page about it.
        kind: whether rows are edits (`EditPair` or `EditSample`) or captioned images (`ImageRecord`).
        told: what was met on the way that is no sample, as a file without its partner.
    """

    name: str
    kind: Literal["edits", "images"] = "edits"
    caption_order: Sequence[str] = ("long", "short", "original")
    told: tuple[Unreadable, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def rows(self, positions: Sequence[int]) -> Iterator[Row | Unreadable]:
        """The samples at `positions`, which ascend, one in memory at a time."""

    def keys(self) -> list[str] | None:
        """The key of each, where it is known before the row is read."""
        return None

    def statuses(self) -> Sequence[str | None]:
        """The mask status of each; None where it is not known before the row is read."""
        return [None] * len(self)

    def fractions(self) -> Sequence[float | None]:
        """The edited fraction of each, or None."""
        return [None] * len(self)
