"""A stream that knows, at its end, what the manifest says of its file."""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO, Literal

from schemas.manifest import FileEntry


class Hashed:
    """A write-only stream that hashes and counts what goes through it to another."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._written = 0

    def write(self, data: Any) -> int:
        """Pass the bytes on; returns how many."""
        view = memoryview(data)
        self._stream.write(view)
        self._digest.update(view)
        self._written += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Pass on the wish; `write_whole` does the syncing."""
        self._stream.flush()

    def close(self) -> None:
        """Nothing: `write_whole` closes the stream."""

    def writable(self) -> bool:
        """A Parquet writer asks."""
        return True

    def tell(self) -> int:
        """Bytes written."""
        return self._written

    def entry(self, name: str, form: Literal["webdataset", "parquet", "index"], samples: int) -> FileEntry:
        """The manifest's entry of the file written."""
        return FileEntry(name=name, format=form, samples=samples, bytes=self._written, sha256=self._digest.hexdigest())
