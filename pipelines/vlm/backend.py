"""What a backend is: for each request a reply, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from schemas.errors import RowRejected


@dataclass(frozen=True)
class Request:
    """One question.

    Args:
        system: the system message; empty for none.
        parts: what the user says: texts, and encoded images where they stand between them.
        turns: what followed, in order: what the model replied, and what the user said to that.
        schema: JSON schema that the reply is to follow; None for free text.
    """

    system: str
    parts: tuple[str | pa.Buffer, ...]
    turns: tuple[tuple[str, str], ...] = ()
    schema: Mapping[str, Any] | None = None

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
        prompt_tokens, completion_tokens: what it took, images included; None where the endpoint does not say.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Watcher(Protocol):
    """Stands between a backend and what it does: lets requests go out, and hears of replies as they come."""

    def admit(self) -> float:
        """Called before a request goes out, each attempt anew; returns the seconds to wait first.

        Raises:
            EditmillError: nothing more may be asked.
        """

    def arrived(self, place: int, reply: Reply) -> None:
        """The reply to the request at `place` is there. May be called from any thread."""


class Nobody:
    """A `Watcher` that lets everything pass."""

    def admit(self) -> float:
        """At once."""
        return 0.0

    def arrived(self, place: int, reply: Reply) -> None:
        """Nothing."""


NOBODY = Nobody()


class VLMBackend(Protocol):
    """A model that looks at images and answers."""

    def preflight(self) -> None:
        """Raises an `EditmillError` where the model cannot be reached or loaded. Loads nothing heavy."""

    def setup(self) -> None:
        """Make ready for `ask`; called once in each process."""

    def revision(self) -> str:
        """Which state of the model answers, as far as that can be known; empty where it cannot."""

    def ask(self, requests: Sequence[Request], watcher: Watcher = NOBODY) -> list[Reply | RowRejected]:
        """One result for each request, in order. One request's failure never touches another's.

        Raises:
            EditmillError: no request at all can be answered (the key is refused, the model is gone), or no further one
                may be paid for.
        """
