"""Keys for rows that cannot have a content-derived one: made from where the row stands."""

from __future__ import annotations

import hashlib

from schemas.keys import KEY_LENGTH


def place_key(path: str, place: str) -> str:
    """A key from a file's own name and a place in it; the folder does not count, so that copied data keeps its keys."""
    name = path.replace("\\", "/").rpartition("/")[2]
    return hashlib.sha256(f"place {place} of {name}".encode()).hexdigest()[:KEY_LENGTH]
