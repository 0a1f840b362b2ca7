"""Every field of a sample as lines of text, for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.preview.look import plain
from schemas.errors import RowRejected
from schemas.image_format import sniff_format
from schemas.images import HARD_MAX_PIXELS, image_size

_WIDTH = 100
_LONGEST_TEXT = 4000
"""Characters of one text that are shown."""


def field_lines(row: Mapping[str, Any]) -> list[str]:
    """`NAME  VALUE` of each field, names aligned, values that need more lines indented under their name.

    Images are told by format, size in pixels and bytes; a text that is JSON is laid out; control characters are left
    out, so that data cannot steer the terminal.
    """
    width = max((len(name) for name in row), default=0) + 2
    lines = []
    for name, value in row.items():
        first, *others = list(_value_lines(value)) or ["[]"]
        lines.append(f"{plain(name):<{width}}{first}".rstrip())
        lines += [f"{'':<{width}}{line}" for line in others]
    return lines


def image_line(data: bytes | None, path: str | None = None) -> str:
    """An encoded image in one line: its name, format, size in pixels and in bytes; or what is wrong with it."""
    name = "" if not path else f"{plain(path)}  "
    if not data:
        return f"{name}no bytes"
    known = sniff_format(data)
    if known is None:
        return f"{name}{len(data):,} bytes in no known image format"
    try:
        width, height = image_size(data, max_pixels=HARD_MAX_PIXELS)
    except RowRejected as rejection:
        return f"{name}{known.pillow}, {len(data):,} bytes: {plain(rejection.sentence)}"
    return f"{name}{known.pillow} {width} x {height}, {len(data):,} bytes"


def is_image(value: Any) -> bool:
    """Whether a value is a `struct<bytes, path>`."""
    return isinstance(value, Mapping) and set(value) == {"bytes", "path"}


def _value_lines(value: Any) -> Iterator[str]:
    if value is None:
        yield "-"
    elif is_image(value):
        yield image_line(value["bytes"], value["path"])
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and value and all(map(is_image, value)):
        for image in value:
            yield image_line(image["bytes"], image["path"])
    elif isinstance(value, bytes):
        yield image_line(value) if sniff_format(value) else f"{len(value):,} bytes"
    elif isinstance(value, str):
        yield from _text_lines(value)
    elif isinstance(value, Sequence | Mapping):
        yield from _laid_out(_as_mapping(value), "")
    else:
        yield plain(str(value))


def _text_lines(text: str) -> Iterator[str]:
    if text.lstrip().startswith(("{", "[")):
        try:
            yield from _laid_out(json.loads(text), "")
            return
        except (ValueError, RecursionError):
            pass
    cut = text[:_LONGEST_TEXT]
    yield from (plain(line) for line in cut.splitlines() or [""])
    if len(text) > len(cut):
        yield f"… {len(text) - len(cut):,} characters more"


def _laid_out(value: Any, indent: str) -> Iterator[str]:
    """JSON-like values, on one line where they fit, else an item a line."""
    whole = plain(json.dumps(value, ensure_ascii=False, default=str))
    if len(indent) + len(whole) <= _WIDTH or not isinstance(value, list | dict) or not value:
        yield f"{indent}{whole}"
        return
    inner = f"{indent}  "
    if isinstance(value, list):
        for item in value:
            first, *others = list(_laid_out(item, inner))
            yield f"{indent}- {first[len(inner) :]}"
            yield from others
        return
    for name, item in value.items():
        first, *others = list(_laid_out(item, inner))
        if others:
            yield f"{indent}{plain(str(name))}:"
            yield from (first, *others)
        else:
            yield f"{indent}{plain(str(name))}: {first.strip()}"


def _as_mapping(value: Any) -> Any:
    """Arrow's maps come as pairs."""
    if isinstance(value, list) and value and all(isinstance(one, tuple) and len(one) == 2 for one in value):
        return dict(value)
    return value
