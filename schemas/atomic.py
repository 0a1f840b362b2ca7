"""A file appears under its name only when it is whole: written aside, synced, renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from schemas.errors import OutputError

PARTIAL_SUFFIX = ".partial"
"""Suffix of a file being written. A reader never opens one; a writer started again may delete those it finds."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block, which writes `path`, into an `OutputError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        mend = "Free space there." if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Choose another place."
        raise OutputError("output", str(path), f"cannot be written ({reason})", mend) from error


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file aside of `path`; at a clean exit it is synced and renamed to `path`, replacing what was there.

    Two writers of the same `path`, on whatever machines, do not disturb each other: each writes aside under a name of
    its own, the last rename wins. At an exception nothing appears under `path` and the partial file is removed.

    Args:
        path: the final name; its folder is made if missing.

    Raises:
        OutputError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with write_whole(path) as stream:
        stream.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON with sorted keys, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (a rename is only safe once its folder was synced)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partials(folder: Path) -> list[Path]:
    """Delete the partial files directly in `folder` that a killed writer left; returns what was deleted."""
    left = sorted(folder.glob(f".*{PARTIAL_SUFFIX}"))
    for path in left:
        path.unlink(missing_ok=True)
    return left


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON without spaces and with sorted keys: equal values have equal text, so it may be hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
