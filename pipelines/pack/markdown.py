"""Markdown from values that came with the data, which must not become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

MOST_CHARACTERS = 160
"""Longer values are cut."""

_MARKUP = re.compile(r"([\\`*\[\]<>|~!&]|(?<![^\W_])_|_(?![^\W_]))")


def plain(value: Any) -> str:
    """`value` as text that Markdown shows as it is: on one line, cut where it is long; a dash for None."""
    if value is None or value == "":
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = " ".join(str(value).split())
    text = text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
    return _MARKUP.sub(r"\\\1", text)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; columns of numbers are flush right. Empty without rows."""
    rows = list(rows)
    if not rows:
        return ""
    numbers = [all(isinstance(row[place], int) for row in rows) for place in range(len(heads))]
    lines = [heads, ["--:" if number else "---" for number in numbers], *([plain(v) for v in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(text: str, language: str) -> str:
    """A code block; its fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"
