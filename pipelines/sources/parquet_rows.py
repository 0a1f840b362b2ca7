"""Parquet files cut into ranges of rows, of which only the wanted columns are read, a few rows at a time.

A range is whole row groups as long as they are small. A row group with many large images is cut further, at the price
that what stands before a piece of it is read again: images of one piece are all in memory together. A page is never
cut, so that a file written with huge pages takes one of them beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.parquet_files import ParquetFile, locate, read_footer
from pipelines.source import Partition
from schemas.atomic import fingerprint
from schemas.errors import InputError

DEFAULT_PARTITION_BYTES = 512 * 2**20
_ROWS_AT_ONCE = 16
_BUFFER = 2**20
_MOST_COMPRESSED = 8
"""Encoded images hardly get smaller in Parquet; a footer that says more is damaged."""


def row_ranges(
    footer: pq.FileMetaData, rows_wanted: int, bytes_wanted: int, file_bytes: int
) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of rows (stop exclusive) that together are the file.

    Small row groups are joined up to `rows_wanted` rows; one of more than `bytes_wanted` bytes is cut into equal parts.

    Args:
        file_bytes: size of the file, against which a damaged footer's sizes are held.
    """
    start = stop = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        size = min(group.total_byte_size, _MOST_COMPRESSED * file_bytes)
        pieces = min(-(-size // bytes_wanted), group.num_rows)
        if stop > start and (pieces > 1 or stop - start + group.num_rows > rows_wanted):
            yield start, stop
            start = stop
        if pieces > 1:
            yield from pairwise([stop + group.num_rows * piece // pieces for piece in range(pieces + 1)])
            start = stop + group.num_rows
        stop += group.num_rows
    if stop > start:
        yield start, stop


def row_partitions(
    files: Sequence[ParquetFile], rows_wanted: int, bytes_wanted: int, salt: Sequence[str] = ()
) -> list[Partition]:
    """Ranges of rows as partitions, from the files' footers alone, in the order of the files.

    A name holds the file's name, size and time of change, as hashing the content would read it all.

    Args:
        salt: what else decides the rows read.

    Raises:
        InputError: a file is no whole Parquet file, or there is no row in any.
    """
    partitions: list[Partition] = []
    for file in files:
        name = file.path.rpartition("/")[2]
        for start, stop in row_ranges(read_footer(file.path), rows_wanted, bytes_wanted, file.bytes):
            mark = fingerprint([name, start, stop, file.bytes, file.changed_ns, *salt])
            partitions.append(Partition(f"{len(partitions):05d}-{mark}", file.path, start, stop))
    if not partitions:
        raise InputError("paths", [file.path for file in files], "hold no row", "Name files with rows.")
    return partitions


def read_rows(partition: Partition, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(position in the file, values of `columns`) of each row of a partition; Python values of one row at a time.

    Raises:
        InputError: the file cannot be read, or is damaged behind its footer.
    """
    filesystem, inner = locate(partition.path)
    try:
        with filesystem.open_input_file(inner) as stream:
            file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER)
            groups, position = _groups(file.metadata, partition)
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=list(columns)):
                batch.validate(full=True)
                first, last = max(partition.start - position, 0), min(partition.stop - position, batch.num_rows)
                for number in range(first, last):
                    yield position + number, batch.slice(number, 1).to_pylist()[0]
                position += batch.num_rows
                if position >= partition.stop:
                    return
    # UnicodeDecodeError: damaged text. OverflowError, ValueError: a damaged footer's numbers.
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, ValueError) as error:
        raise _damaged(partition, f"cannot be read ({error})") from error
    raise _damaged(partition, "are not all there")


def _damaged(partition: Partition, rule: str) -> InputError:
    rows = f"rows {partition.start} to {partition.stop - 1}"
    return InputError(partition.path, rows, rule, "Fetch the file again, or leave it out.")


def _groups(footer: pq.FileMetaData, partition: Partition) -> tuple[list[int], int]:
    """The row groups that hold rows of the partition, and how many rows stand before the first."""
    groups: list[int] = []
    before = skipped = 0
    for number in range(footer.num_row_groups):
        rows = footer.row_group(number).num_rows
        if before + rows <= partition.start:
            skipped += rows
        elif before < partition.stop:
            groups.append(number)
        before += rows
    return groups, skipped
