"""Queries over row ranges of one Parquet file. The engine is DuckDB: over LAION-shaped files it takes less than half
the processor time of a PyArrow scan and a quarter of its memory (`benchmarks/filter.py`).

Local files DuckDB reads itself, skipping pages that nobody asks for. From other file systems, and where DuckDB cannot
read a file (a text column that holds no text), PyArrow streams batches into the same queries.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from pipelines.metadata_filter.columns import ROW_NUMBER, FileColumns
from pipelines.metadata_filter.sql import text_literal
from pipelines.parquet_files import locate

_BATCH_ROWS = 32_768
_BUFFER_BYTES = 1 << 20
_SETTINGS = (
    # DuckDB would read all chunks of a row group at once, however large; page by page is faster here, too.
    "SET disable_parquet_prefetching = true",
    # Parquet's statistics leave NaN out. DuckDB takes them to speak of every value, and so folds isnan(x) to false.
    "SET disabled_optimizers = 'statistics_propagation'",
    "SET memory_limit = '1GB'",
    "SET autoinstall_known_extensions = false",
)
_local = threading.local()
_making = threading.Lock()


@dataclass(frozen=True)
class RowRanges:
    """The rows to be read of a file.

    Args:
        path: as `locate` understands it.
        ranges: of row numbers, ascending, stop exclusive.
        groups: for each row group of the file, its first row; and the number of rows at the end.
        columns: of the file.
        through_arrow: PyArrow reads, and hands texts on as bytes.
    """

    path: str
    ranges: tuple[tuple[int, int], ...]
    groups: tuple[int, ...]
    columns: FileColumns
    through_arrow: bool

    @property
    def rows(self) -> int:
        """How many."""
        return sum(stop - start for start, stop in self.ranges)

    @property
    def as_bytes(self) -> RowRanges:
        """The same rows, read by PyArrow."""
        return replace(self, through_arrow=True)

    def parts(self, count: int) -> list[RowRanges]:
        """The same rows in about `count` parts of equal length, in order; at least one."""
        length = max(1, -(-self.rows // max(1, count)))
        parts: list[list[tuple[int, int]]] = [[]]
        room = length
        for start, stop in self.ranges:
            while start < stop:
                if not room:
                    parts.append([])
                    room = length
                taken = min(room, stop - start)
                parts[-1].append((start, start + taken))
                start, room = start + taken, room - taken
        return [replace(self, ranges=tuple(part)) for part in parts]

    def first(self, rows: int) -> RowRanges:
        """The first `rows` of them at most, without what lies behind the first range."""
        start, stop = self.ranges[0]
        return replace(self, ranges=((start, min(stop, start + rows)),))


def is_local(path: str) -> bool:
    """Whether the file is on a file system of this machine."""
    return isinstance(locate(path)[0], fs.LocalFileSystem)


def query(rows: RowRanges, select: str, where: Sequence[str], columns: Sequence[str], end: str = "") -> pa.Table:
    """Run `SELECT select FROM rows WHERE all of where END`.

    Args:
        select, where, end: SQL over the file's columns (`FileColumns.sql`) and `ROW_NUMBER`.
        columns: those of the file that these use.

    Raises:
        duckdb.Error, pyarrow.ArrowException, OSError: the file cannot be read.
    """
    connection = _connection()
    if not rows.through_arrow:
        ranges = " OR ".join(f"{ROW_NUMBER} BETWEEN {start} AND {stop - 1}" for start, stop in rows.ranges)
        conditions = [*where] if rows.ranges == ((0, rows.groups[-1]),) else [f"({ranges})", *where]
        return connection.sql(_sentence(select, _file(rows.path), conditions, end)).to_arrow_table()
    batches: Any = pa.RecordBatchReader.from_batches(_bytes_schema(rows.columns, columns), _batches(rows, columns))
    connection.register("batches", batches)
    try:
        return connection.sql(_sentence(select, "batches", where, end)).to_arrow_table()
    finally:
        connection.unregister("batches")


def query_table(table: pa.Table, select: str) -> pa.Table:
    """Run `SELECT select` over a table in memory; rows keep their order."""
    connection = _connection()
    connection.register("rows_in_memory", table)
    try:
        return connection.sql(f"SELECT {select} FROM rows_in_memory").to_arrow_table()
    finally:
        connection.unregister("rows_in_memory")


def _sentence(select: str, table: str, conditions: Sequence[str], end: str) -> str:
    return f"SELECT {select} FROM {table} {'WHERE ' if conditions else ''}{' AND '.join(conditions)} {end}"


def _connection() -> duckdb.DuckDBPyConnection:
    """The connection of this thread to the one database of this process, so that all threads' queries share its
    threads and its memory limit. It has as many as PyArrow, which heeds OMP_NUM_THREADS, may use."""
    with _making:
        database = _database(pa.cpu_count())
    if getattr(_local, "database", None) is not database:
        _local.database, _local.connection = database, database.cursor()
    found: duckdb.DuckDBPyConnection = _local.connection
    return found


@lru_cache(maxsize=1)
def _database(threads: int) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(":memory:")
    database.execute("LOAD parquet")
    for setting in (f"SET threads = {threads}", *_SETTINGS):
        database.execute(setting)
    return database


def _file(path: str) -> str:
    _, inner = locate(path)
    # In brackets a wildcard stands for itself.
    plain = "".join(f"[{letter}]" if letter in "*?[" else letter for letter in inner)
    return f"read_parquet({text_literal(plain)}, hive_partitioning = false)"


def _bytes_schema(file: FileColumns, columns: Sequence[str]) -> pa.Schema:
    fields = [pa.field(file.sql_name(name), _bytes_type(file.types[name])) for name in columns]
    return pa.schema([*fields, pa.field(ROW_NUMBER, pa.int64())])


def _bytes_type(found: pa.DataType) -> pa.DataType:
    """Texts as bytes, since a text column may hold what is no text; dictionaries as their values."""
    if pa.types.is_dictionary(found):
        return _bytes_type(found.value_type)
    if pa.types.is_string(found) or pa.types.is_large_string(found):
        return pa.large_binary()
    return found


def _batches(rows: RowRanges, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    filesystem, inner = locate(rows.path)
    schema = _bytes_schema(rows.columns, columns)
    with filesystem.open_input_file(inner) as stream:
        file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        for start, stop in rows.ranges:
            chosen = [
                group for group, first in enumerate(rows.groups[:-1]) if first < stop and rows.groups[group + 1] > start
            ]
            at = rows.groups[chosen[0]]
            for batch in file.iter_batches(_BATCH_ROWS, chosen, list(columns), use_threads=pa.cpu_count() > 1):
                low, high = max(0, start - at), min(batch.num_rows, stop - at)
                if low < high:
                    numbers = pa.array(range(at + low, at + high), pa.int64())
                    part = batch.slice(low, high - low)
                    values = [part.column(name).cast(schema.field(place).type) for place, name in enumerate(columns)]
                    yield pa.RecordBatch.from_arrays([*values, numbers], schema=schema)
                at += batch.num_rows
                if at >= stop:
                    break
