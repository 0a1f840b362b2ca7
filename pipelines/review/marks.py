"""The marks file: JSONL, one mark a line, as the preview page writes it.

    {"key": "<32 hexadecimal digits>", "mark": "good" | "bad" | "unsure", "note": "why"}

`note` may be missing; other keys may be there and mean nothing here. Of several lines for a key the last one counts.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from schemas.errors import InputError

_KEY = re.compile(r"[0-9a-f]{32}")


class Mark(StrEnum):
    """What a curator says of a sample."""

    GOOD = "good"
    BAD = "bad"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Marked:
    """A mark with its note, on one line; "" where there is none."""

    mark: Mark
    note: str = ""


def read_marks(path: Path) -> dict[str, Marked]:
    """Key -> mark, in the order in which the keys first stand in the file. A file without a line gives none.

    Raises:
        InputError: the file cannot be read, or a line is no mark; the line is named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            "marks", str(path), f"cannot be read ({error.strerror})", "Name the marks.jsonl that the page saved."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError("marks", str(path), f"is no UTF-8 text ({error})", "Save it as UTF-8.") from error
    marks: dict[str, Marked] = {}
    # Only line feeds part lines: a note may hold the other characters that `splitlines` parts at.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            key, marked = _marked(line, f"{path}, line {number}")
            marks[key] = marked
    return marks


def _marked(line: str, where: str) -> tuple[str, Marked]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(where, line, f"is no JSON ({error})", "Write one JSON object a line.") from error
    if not isinstance(values, dict):
        raise InputError(where, line, "is JSON, but no object", 'Write {"key": "...", "mark": "bad"}.')
    key, mark, note = values.get("key"), values.get("mark"), values.get("note")
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise InputError(
            f"{where}: key", key, "must be 32 lower-case hexadecimal digits", "Copy the whole key of the sample."
        )
    if mark not in tuple(Mark):
        raise InputError(f"{where}: mark", mark, f"must be one of {', '.join(Mark)}", "Correct the mark.")
    if note is not None and not isinstance(note, str):
        raise InputError(f"{where}: note", note, "must be a text", "Quote it, or leave it out.")
    return key, Marked(Mark(mark), " ".join((note or "").split()))
