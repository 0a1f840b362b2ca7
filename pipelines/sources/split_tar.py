"""Tar archives that were cut into parts (`NAME.tar.split.000`, `.001`, ...) or not, read without joining or unpacking.

Headers are walked here rather than by `tarfile`, which takes a cut-off or damaged archive for a whole one, and which
reads as much into memory as a damaged header asks for.
"""

from __future__ import annotations

import bisect
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from schemas.errors import InputError

_PART = re.compile(r"(?P<archive>.+\.tar)\.split\.(?P<number>\d+)")
_BLOCK = tarfile.BLOCKSIZE
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LONGEST_NAME = 2**16
_MEND = "Download it again, or leave it out."


@dataclass(frozen=True)
class TarMember:
    """One file in an archive.

    Args:
        name: as the archive has it, without a leading `./`.
        offset: where its bytes begin in the archive, all parts joined.
        size: how many there are.
    """

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class SplitTar:
    """An archive.

    Args:
        name: of the whole archive, relative to the folder it was found in.
        parts: the files that make it, in order.
        sizes: bytes of each.
    """

    name: str
    parts: tuple[Path, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(self.sizes)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer where the archive ends before.

        Raises:
            InputError: a part cannot be read, or has become shorter.
        """
        with _Reader(self) as reader:
            return reader.read(offset, size)


class _Reader:
    """An archive's bytes at any place, with the part that was read last kept open."""

    def __init__(self, archive: SplitTar) -> None:
        self._archive = archive
        self._starts = [0, *accumulate(archive.sizes)]
        self._open: tuple[int, BinaryIO] | None = None

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        if self._open is not None:
            self._open[1].close()

    def read(self, offset: int, size: int) -> bytes:
        """As `SplitTar.read`."""
        number = bisect.bisect_right(self._starts, offset) - 1
        pieces: list[bytes] = []
        while size > 0 and number < len(self._archive.parts):
            inside = offset - self._starts[number]
            wanted = min(size, self._archive.sizes[number] - inside)
            pieces.append(self._piece(number, inside, wanted))
            offset, size, number = offset + wanted, size - wanted, number + 1
        return b"".join(pieces)

    def _piece(self, number: int, offset: int, size: int) -> bytes:
        path = self._archive.parts[number]
        try:
            if self._open is None or self._open[0] != number:
                if self._open is not None:
                    self._open[1].close()
                self._open = number, path.open("rb")
            stream = self._open[1]
            stream.seek(offset)
            data = stream.read(size)
        except OSError as error:
            raise InputError("archive", str(path), f"cannot be read ({error})", "Restore the file.") from error
        if len(data) < size:
            raise InputError("archive", str(path), "has become shorter", "Restore the file.")
        return data


def find_archives(folders: Sequence[Path]) -> list[SplitTar]:
    """The archives below `folders`, whole or in parts, sorted by name.

    Raises:
        InputError: a part is missing between others, or a folder cannot be listed.
    """
    archives: list[SplitTar] = []
    for folder in folders:
        found: dict[str, dict[int, Path]] = defaultdict(dict)
        try:
            for path in sorted(folder.rglob("*.tar*")):
                name = path.relative_to(folder).as_posix()
                if (part := _PART.fullmatch(name)) is not None and path.is_file():
                    found[part["archive"]][int(part["number"])] = path
                elif name.endswith(".tar") and path.is_file():
                    archives.append(SplitTar(f"{folder.name}/{name}", (path,), (path.stat().st_size,)))
            for name, parts in found.items():
                missing = sorted(set(range(max(parts) + 1)) - set(parts))
                if missing:
                    raise InputError(
                        str(folder / name),
                        f"{len(parts)} parts",
                        f"part {missing[0]:03d} is missing",
                        "Download it, or leave the whole archive out.",
                    )
                files = tuple(parts[number] for number in sorted(parts))
                archives.append(SplitTar(f"{folder.name}/{name}", files, tuple(file.stat().st_size for file in files)))
        except OSError as error:
            raise InputError("path", str(folder), f"cannot be listed ({error})", "Check its access rights.") from error
    return sorted(archives, key=lambda archive: archive.name)


def members(archive: SplitTar) -> Iterator[TarMember]:
    """The files in an archive, in order; only headers are read.

    Raises:
        InputError: a header is damaged, or the archive does not end as a whole one does. What was given before is
            there all the same.
    """
    with _Reader(archive) as reader:
        yield from _members(archive, reader)


def _members(archive: SplitTar, reader: _Reader) -> Iterator[TarMember]:
    offset, long_name, long_size = 0, "", -1
    while True:
        header = reader.read(offset, _BLOCK)
        if len(header) == _BLOCK and not any(header):
            return
        if len(header) < _BLOCK:
            raise InputError(archive.name, f"{archive.size} bytes", "is cut off", _MEND)
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise _damaged(archive, offset, str(error)) from error
        start = offset + _BLOCK
        size = long_size if long_size >= 0 and info.type in _REGULAR else info.size
        if not 0 <= size <= archive.size - start:
            raise InputError(archive.name, f"{archive.size} bytes", f"is cut off in member {info.name!r}", _MEND)
        offset = start + size + -size % _BLOCK
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            if size > _LONGEST_NAME:
                raise _damaged(archive, start - _BLOCK, f"a name of {size} bytes")
            text = reader.read(start, size)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = text.rstrip(b"\0").decode("utf-8", "surrogateescape")
            else:
                long_name, long_size = _extended(archive, start, text)
            continue
        if info.type in _REGULAR:
            yield TarMember((long_name or info.name).removeprefix("./"), start, size)
        if info.type not in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
            long_name, long_size = "", -1


def _extended(archive: SplitTar, offset: int, text: bytes) -> tuple[str, int]:
    """Path and size in a pax header: records `LENGTH KEY=VALUE`; an empty path or -1 where it has none."""
    values: dict[bytes, bytes] = {}
    while text.strip(b"\0"):
        length, _, rest = text.partition(b" ")
        if not length.isdigit() or len(length) > 6 or not len(length) + 1 < int(length) <= len(text):
            raise _damaged(archive, offset, "a pax record of wrong length")
        key, _, value = rest[: int(length) - len(length) - 1].removesuffix(b"\n").partition(b"=")
        values[key], text = value, text[int(length) :]
    size = values.get(b"size", b"-1")
    if b"size" in values and (not size.isdigit() or len(size) > 18):
        raise _damaged(archive, offset, "a pax size that is no number")
    return values.get(b"path", b"").decode("utf-8", "surrogateescape"), int(size)


def _damaged(archive: SplitTar, offset: int, why: str) -> InputError:
    return InputError(archive.name, f"byte {offset}", f"has a damaged header ({why})", _MEND)
