"""Tar bytes that depend on names and contents alone: no times, no owners, one mode."""

from __future__ import annotations

import tarfile
from typing import Protocol

from pipelines.shards.members import Members


class Sink(Protocol):
    """Takes bytes, in order."""

    def write(self, data: bytes, /) -> int:
        """Append the bytes; returns how many."""


BLOCK = tarfile.BLOCKSIZE
MODE = 0o644


def sample_bytes(members: Members) -> int:
    """Bytes that a sample takes in a tar: a header block a member, and its data padded to whole blocks."""
    return sum(BLOCK + _padded(len(data)) for _, data in members)


def write_sample(stream: Sink, key: str, members: Members) -> int:
    """Append a sample; what is written is a readable tar by itself.

    Returns:
        The bytes written, which are `sample_bytes(members)`.
    """
    written = 0
    for suffix, data in members:
        header = tarfile.TarInfo(f"{key}.{suffix}")
        header.size, header.mode = len(data), MODE
        written += stream.write(header.tobuf(tarfile.USTAR_FORMAT))
        written += stream.write(data)
        written += stream.write(bytes(_padded(len(data)) - len(data)))
    return written


def write_end(stream: Sink, written: int) -> None:
    """Append the end of the archive: two zero blocks, then zeros up to a whole tar record, as POSIX asks.

    Args:
        written: bytes of all samples before.
    """
    end = written + 2 * BLOCK
    stream.write(bytes(end - written + -end % tarfile.RECORDSIZE))


def _padded(size: int) -> int:
    return size + -size % BLOCK
