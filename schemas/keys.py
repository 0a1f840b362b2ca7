"""Content-derived sample ids: the same content has the same key, on every machine and in every run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

KEY_LENGTH = 32
_KEY = re.compile(r"[0-9a-f]{32}")


def image_key(url: str, caption: str | None) -> str:
    """Key of a metadata row, from its address and caption (LAION repeats addresses under other captions)."""
    return _digest(b"image", url.encode(), (caption or "").encode())


def pair_key(references: Sequence[bytes], target: bytes, instruction: str) -> str:
    """Key of an edit pair, from the encoded bytes of its images, in order, and its instruction."""
    parts = [hashlib.sha256(reference).digest() for reference in references]
    return _digest(b"pair", *parts, hashlib.sha256(target).digest(), instruction.encode())


def is_key(text: str) -> bool:
    """Whether `text` has the form of a key: 32 lower-case hexadecimal digits."""
    return _KEY.fullmatch(text) is not None


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:KEY_LENGTH]
