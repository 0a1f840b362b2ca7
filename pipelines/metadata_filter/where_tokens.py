"""The words of a `where` expression."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "like", "ilike", "between", "true", "false"})

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")+")
      | (?P<word>[^\W\d]\w*)
      | (?P<sign><=|>=|<>|!=|==|[-+*/%()<>=,])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """One word.

    Args:
        kind: "name" is a column or function, "end" follows the last word.
        text: keywords in lower case, quoted names and texts without their quotes.
        place: of its first character in the expression.
    """

    kind: Literal["number", "text", "name", "keyword", "sign", "end"]
    text: str
    place: int


def tokens_of(expression: str) -> Iterator[Token]:
    """The words of `expression`, and an end.

    Raises:
        ValueError: a character that begins no word; the message points at it.
    """
    place = 0
    while expression[place:].strip():
        found = _TOKEN.match(expression, place)
        if found is None:
            place += len(expression[place:]) - len(expression[place:].lstrip())
            rest = expression[place:]
            fail(expression, place, "a text has no closing quote" if rest[0] in "'\"" else f"cannot read '{rest[:12]}'")
        kind = str(found.lastgroup)
        text, start = found[kind], found.start(kind)
        place = found.end()
        if kind == "number":
            yield Token("number", text, start)
        elif kind == "text":
            yield Token("text", text[1:-1].replace("''", "'"), start)
        elif kind == "quoted":
            yield Token("name", text[1:-1].replace('""', '"'), start)
        elif kind == "word":
            lower = text.lower()
            yield Token("keyword", lower, start) if lower in KEYWORDS else Token("name", text, start)
        else:
            yield Token("sign", {"==": "=", "!=": "<>"}.get(text, text), start)
    yield Token("end", "", len(expression))


def fail(expression: str, place: int, rule: str) -> NoReturn:
    """Raises:
    ValueError: `rule`, and the place with what stands there.
    """
    rest = " ".join(expression[place:].split())
    at = f"at '{rest[:24]}{'...' if len(rest) > 24 else ''}', character {place + 1}" if rest else "at the end"
    raise ValueError(f"{rule} ({at})")
