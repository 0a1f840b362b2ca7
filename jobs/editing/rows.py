"""What a batch edits: rows, each of which is read only when its turn comes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from unified_model.requests import EditRequest


@dataclass(frozen=True)
class Sizing:
    """What a row takes where it says nothing itself.

    Args:
        seed: of the starting noise.
        height, width: of the result; None takes the first reference's.
    """

    seed: int = 0
    height: int | None = None
    width: int | None = None


class EditRow(ABC):
    """One row of a batch.

    Attributes:
        name: file name of its output, unique in the batch.
        identity: of what is edited; the same row has the same one as long as neither its words nor its images changed.
    """

    name: str
    identity: str

    @abstractmethod
    def request(self, default: Sizing) -> EditRequest:
        """Read and decode what the row names.

        Raises:
            RowRejected: the row cannot be edited.
        """


@dataclass(frozen=True)
class BrokenRow(EditRow):
    """A row that is rejected without being read.

    Args:
        reason, sentence: as in `RowRejected`.
    """

    name: str
    identity: str
    reason: str
    sentence: str

    def request(self, default: Sizing) -> EditRequest:
        """Rejects."""
        from schemas.errors import RowRejected

        raise RowRejected(self.reason, self.sentence)


class EditRows(ABC):
    """The rows of a batch, in an order that stays the same."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def __iter__(self) -> Iterator[EditRow]:
        """Each in turn."""
