"""What a backend is: for each request a reply, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from schemas.errors import RowRejected


@dataclass(frozen=True)
class Request:
    """One question.

    Args:
        system: the system message; empty for none.
        parts: what the user says: texts, and encoded images where they stand between them.
    """

    system: str
    parts: tuple[str | pa.Buffer, ...]

    @property
    def images(self) -> tuple[pa.Buffer, ...]:
        """The encoded images, in order."""
        return tuple(part for part in self.parts if not isinstance(part, str))


@dataclass(frozen=True)
class Reply:
    """What a model said, unjudged.

    Args:
        text: as it came.
        finish_reason: "stop" where the model ended by itself, "length" where it was cut off, else the endpoint's word.
    """

    text: str
    finish_reason: str


class VLMBackend(Protocol):
    """A model that looks at images and answers."""

    def preflight(self) -> None:
        """Raises an `EditmillError` where the model cannot be reached or loaded. Loads nothing heavy."""

    def setup(self) -> None:
        """Make ready for `ask`; called once in each process."""

    def ask(self, requests: Sequence[Request]) -> list[Reply | RowRejected]:
        """One result for each request, in order. One request's failure never touches another's.

        Raises:
            EditmillError: no request at all can be answered (the key is refused, the model is gone).
        """
