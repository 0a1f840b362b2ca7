"""Quantities as texts for people."""

from __future__ import annotations


def bytes_text(size: float) -> str:
    """A size for people: bytes, KiB, MiB, GiB or TiB, whichever reads best."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
