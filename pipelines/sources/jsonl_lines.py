"""JSONL files cut into ranges of whole lines, which are read again without what stands before them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.source import Partition
from schemas.atomic import fingerprint
from schemas.errors import InputError

_CHUNK = 2**20


@dataclass(frozen=True)
class Line:
    """One line that is not blank.

    Args:
        offset: bytes of the file before it.
        text: the line without its end, not decoded.
    """

    offset: int
    text: bytes


def jsonl_files(path: Path) -> list[Path]:
    """The JSONL files that `path` means: itself, or those directly in it, sorted by name.

    Raises:
        InputError: it does not exist, or is a folder without any.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError("path", str(path), "does not exist", "Name a .jsonl file, or the folder that holds it.")
    files = sorted(child for child in path.glob("*.jsonl") if child.is_file())
    if not files:
        raise InputError("path", str(path), "is a folder without a .jsonl file", "Name the folder that holds it.")
    return files


def line_partitions(files: list[Path], lines_per_partition: int) -> list[Partition]:
    """Ranges of lines as partitions; `start` and `stop` are byte offsets, so that reading one seeks to it.

    A name holds the hash of the range's own bytes: they are read anyway to find the lines, and unlike a time of change
    the hash stays the same when the data is copied, and changes with every change.

    Raises:
        InputError: a file cannot be read, or none has a line.
    """
    partitions: list[Partition] = []
    for file in files:
        digest = hashlib.sha256()
        start = count = 0
        stop = 0
        for line, end in _raw_lines(file):
            digest.update(line)
            count += bool(line.strip())
            stop = end
            if count == lines_per_partition:
                partitions.append(_partition(len(partitions), file, start, stop, digest.hexdigest()))
                digest, start, count = hashlib.sha256(), stop, 0
        if count:
            partitions.append(_partition(len(partitions), file, start, stop, digest.hexdigest()))
    if not partitions:
        raise InputError(
            "path", [str(file) for file in files], "holds no line", "Name a file with one JSON object a line."
        )
    return partitions


def line_places(file: Path) -> Iterator[tuple[int, int]]:
    """(first byte, byte after the last) of each line of a file that is not blank.

    Raises:
        InputError: the file cannot be read.
    """
    start = 0
    for line, end in _raw_lines(file):
        if line.strip():
            yield start, end
        start = end


def read_lines(partition: Partition) -> Iterator[Line]:
    """The lines of a partition that are not blank.

    Raises:
        InputError: the file cannot be read any more.
    """
    try:
        with Path(partition.path).open("rb") as stream:
            stream.seek(partition.start)
            offset = partition.start
            while offset < partition.stop and (line := stream.readline()):
                if line.strip():
                    yield Line(offset, line.rstrip(b"\r\n"))
                offset += len(line)
    except OSError as error:
        raise InputError("path", partition.path, f"cannot be read ({error})", "Restore the file.") from error


def line_number(path: Path, offset: int) -> int:
    """Number of the line that begins at `offset`, counting from 1: for telling a person, found when it is needed."""
    number = 1
    with path.open("rb") as stream:
        while offset > 0 and (chunk := stream.read(min(_CHUNK, offset))):
            number += chunk.count(b"\n")
            offset -= len(chunk)
    return number


def _raw_lines(file: Path) -> Iterator[tuple[bytes, int]]:
    try:
        with file.open("rb") as stream:
            end = 0
            for line in stream:
                end += len(line)
                yield line, end
    except OSError as error:
        raise InputError("path", str(file), f"cannot be read ({error})", "Check its access rights.") from error


def _partition(position: int, file: Path, start: int, stop: int, content: str) -> Partition:
    return Partition(f"{position:05d}-{fingerprint([file.name, start, stop, content])}", str(file), start, stop)
