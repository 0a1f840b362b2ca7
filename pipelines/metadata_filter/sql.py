"""Literals and names in SQL."""

from __future__ import annotations

from typing import Literal


def name_literal(name: str) -> str:
    """A column name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """A text, quoted."""
    return "'" + text.replace("'", "''") + "'"


def float_literal(value: float, width: Literal["FLOAT", "DOUBLE"] = "DOUBLE") -> str:
    """The nearest float32 or float64 to `value`."""
    return f"CAST('{value!r}' AS {width})"
