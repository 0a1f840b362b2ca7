"""From a reply to text that may be stored. Only measurable rules: nobody guesses at a text's meaning here."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from pipelines.vlm.backend import Reply
from schemas.config import Config
from schemas.errors import RowRejected

_UNPRINTABLE = frozenset({"Cc", "Cs", "Co", "Cn"})
"""Unicode categories: control, surrogate, private use, unassigned."""


class TextLimits(Config):
    """How long a text may be."""

    min_characters: int = Field(default=1, ge=1)
    """Shortest text accepted, inclusive."""
    max_characters: int = Field(ge=1)
    """Longest text accepted, inclusive."""

    @model_validator(mode="after")
    def _limits_fit(self) -> TextLimits:
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} is above max_characters {self.max_characters}")
        return self


class ReplyFault(RowRejected):
    """A reply that cannot be used, where another try of the model may do better."""


def whole_reply(reply: Reply, what: str) -> str:
    """The reply's text without surrounding white space, once it is clear that the model came to its end.

    Args:
        what: begins the reasons: "caption".

    Raises:
        ReplyFault: WHAT_truncated, WHAT_empty.
        RowRejected: WHAT_unfinished.
    """
    if reply.finish_reason == "length":
        raise ReplyFault(f"{what}_truncated", f"the reply was cut off after {len(reply.text)} characters")
    if reply.finish_reason != "stop":
        raise RowRejected(f"{what}_unfinished", f"the model ended with '{reply.finish_reason}' instead of 'stop'")
    text = reply.text.strip()
    if not text:
        raise ReplyFault(f"{what}_empty", "the reply holds no text")
    return text


def checked_text(text: str, limits: TextLimits, what: str, field: str = "the reply") -> str:
    """`text` without surrounding white space, once it is printable and within `limits`.

    Args:
        what: begins the reasons.
        field: what to call the text.

    Raises:
        ReplyFault: WHAT_empty, WHAT_not_printable, WHAT_too_short, WHAT_too_long.
    """
    text = text.strip()
    if not text:
        raise ReplyFault(f"{what}_empty", f"{field} holds no text")
    for place, character in enumerate(text):
        # U+FFFD stands for bytes that were no text.
        if character == "\ufffd" or (unicodedata.category(character) in _UNPRINTABLE and character not in "\n\t"):
            raise ReplyFault(f"{what}_not_printable", f"character {place + 1} of {field} is U+{ord(character):04X}")
    if len(text) < limits.min_characters:
        limit = limits.min_characters
        raise ReplyFault(f"{what}_too_short", f"{field} has {len(text)} characters, fewer than {limit}")
    if len(text) > limits.max_characters:
        limit = limits.max_characters
        raise ReplyFault(f"{what}_too_long", f"{field} has {len(text)} characters, more than {limit}")
    return text


def object_schema(fields: Sequence[str], choices: dict[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """JSON schema of an object that holds exactly `fields`, all texts.

    Args:
        choices: field -> the values it may have.
    """
    properties: dict[str, Any] = {name: {"type": "string"} for name in fields}
    for name, values in (choices or {}).items():
        properties[name]["enum"] = list(values)
    return {"type": "object", "properties": properties, "required": list(fields), "additionalProperties": False}


def read_object(text: str, fields: Sequence[str], what: str) -> dict[str, str]:
    """The texts of a JSON object that holds exactly `fields`, each once; nothing may stand around it.

    Args:
        what: begins the reasons.

    Raises:
        ReplyFault: WHAT_not_json, WHAT_wrong_schema.
    """
    try:
        value = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise ReplyFault(f"{what}_not_json", f"the reply is not one JSON object ({error})") from error
    wrong = f"{what}_wrong_schema"
    if not isinstance(value, _Pairs):
        raise ReplyFault(wrong, f"the reply is JSON of a {type(value).__name__}, not an object")
    names = [name for name, _ in value]
    if sorted(names) != sorted(fields):
        raise ReplyFault(wrong, f"the object must have the keys {', '.join(fields)}, each once; it has {names}"[:300])
    for name, inner in value:
        if not isinstance(inner, str):
            raise ReplyFault(wrong, f"'{name}' must be a text")
    return dict(value)


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON as it stands there, repeated keys included."""
