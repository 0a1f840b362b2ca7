"""Samples in a tar: members in a row that share a key."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from schemas.errors import ShardError

_BLOCK = tarfile.BLOCKSIZE
_MEND = "Pack again, or fetch the file again."


@dataclass(frozen=True)
class TarSample:
    """One sample as it stands in a tar.

    Args:
        key: what the names of its members begin with.
        offset: where its first header begins.
        size: bytes up to the next sample, headers and padding included.
        members: name after the key and its dot -> bytes.
    """

    key: str
    offset: int
    size: int
    members: dict[str, bytes]


def tar_samples(path: Path) -> Iterator[TarSample]:
    """The samples of a tar, in order, one at a time in memory.

    Raises:
        ShardError: it is missing, no tar, cut off, or does not end with the two zero blocks of a whole archive.
    """
    try:
        with path.open("rb") as stream:
            yield from _samples(stream, path.name, ends_with_zeros=True)
    except OSError as error:
        raise ShardError(path.name, str(error), "cannot be read", _MEND) from error


def sample_from_bytes(data: bytes, name: str) -> TarSample:
    """The one sample in the bytes that the index names.

    Raises:
        ShardError: the bytes are not the members of exactly one sample.
    """
    samples = list(_samples(io.BytesIO(data), name, ends_with_zeros=False))
    if len(samples) != 1:
        raise ShardError(name, f"{len(samples)} samples", "must be one sample where the index says so", _MEND)
    return samples[0]


def _samples(stream: BinaryIO, name: str, ends_with_zeros: bool) -> Iterator[TarSample]:
    # The headers are walked here rather than by tarfile's iterator, which takes a cut-off archive for a whole one.
    key, start, members = "", 0, dict[str, bytes]()
    while True:
        offset = stream.tell()
        header = stream.read(_BLOCK)
        if not any(header):
            whole = len(header) == _BLOCK and stream.read(_BLOCK) == bytes(_BLOCK) if ends_with_zeros else not header
            if not whole:
                raise ShardError(name, f"at byte {offset}", "is cut off", _MEND)
            break
        member, data = _member(stream, header, name, offset)
        member_key, _, suffix = member.partition(".")
        if member_key != key and members:
            yield TarSample(key, start, offset - start, members)
        if member_key != key:
            key, start, members = member_key, offset, {}
        members[suffix] = data
    if members:
        yield TarSample(key, start, offset - start, members)


def _member(stream: BinaryIO, header: bytes, name: str, offset: int) -> tuple[str, bytes]:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace")
    except tarfile.HeaderError as error:
        raise ShardError(name, f"at byte {offset}", f"has a damaged tar header ({error})", _MEND) from error
    data = stream.read(info.size)
    padding = -info.size % _BLOCK
    if len(data) < info.size or len(stream.read(padding)) < padding:
        raise ShardError(name, f"in member {info.name}", "is cut off", _MEND)
    return info.name, data
