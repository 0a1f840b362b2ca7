"""Parquet files cut into ranges of row groups, and their columns brought under a record's names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.parquet_files import ParquetFile, damaged, find_files, locate, read_footer, row_group_ranges
from pipelines.source import Partition
from schemas.atomic import fingerprint
from schemas.errors import InputError, SchemaError
from schemas.records import IMAGE_TYPE


def row_group_partitions(
    paths: Sequence[str], rows_per_partition: int, needed: Sequence[str], mend: str
) -> list[Partition]:
    """Ranges of row groups as partitions, from the files' footers alone.

    A name holds the file's name, size and time of change: hashing the content would read it all, and the footer's
    statistics do not tell one image from another.

    Args:
        paths: files, folders or globs.
        rows_per_partition: a range is closed before it would pass this; a larger row group stands alone.
        needed: columns that every file must have.
        mend: what to do where one is missing.

    Raises:
        InputError: a path means no file, a file is no whole Parquet file, or there is no row.
        SchemaError: a file lacks columns; all of them are listed.
    """
    partitions: list[Partition] = []
    for file in find_files(paths):
        footer = read_footer(file.path)
        columns = footer.schema.to_arrow_schema().names
        missing = [name for name in needed if name not in columns]
        if missing:
            raise SchemaError(file.path, columns, f"lacks the columns {', '.join(missing)}", mend)
        for start, stop in row_group_ranges(footer, rows_per_partition):
            partitions.append(_partition(len(partitions), file, start, stop))
    if not partitions:
        raise InputError("paths", list(paths), "hold no row", "Name files with rows.")
    return partitions


def read_row_groups(partition: Partition, columns: Collection[str] | None = None) -> pa.Table:
    """The rows of a partition.

    Args:
        columns: read only these, of those that the file has; by default all.

    Raises:
        InputError: the file cannot be read, or is damaged behind its footer.
    """
    filesystem, inner = locate(partition.path)
    try:
        with filesystem.open_input_file(inner) as stream:
            file = pq.ParquetFile(stream)
            wanted = [name for name in file.schema_arrow.names if columns is None or name in columns]
            table = file.read_row_groups(list(range(partition.start, partition.stop)), columns=wanted)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise damaged(partition.path, partition.start, partition.stop, error) from error
    return table


def as_image_column(column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    """A column of images as `IMAGE_TYPE`: from `struct<bytes, path>`, or from plain bytes (the path is then null).

    Raises:
        SchemaError: it is neither.
    """
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        data = column.combine_chunks().cast(pa.binary())
        return pa.chunked_array([_struct(data, pa.nulls(len(data), pa.string()))])
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        whole = column.combine_chunks()
        data = whole.field("bytes").cast(pa.binary())
        has_path = kind.get_field_index("path") >= 0
        path = whole.field("path").cast(pa.string()) if has_path else pa.nulls(len(whole), pa.string())
        return pa.chunked_array([_struct(data, path, whole.is_null())])
    raise SchemaError(
        what, str(kind), "must be struct<bytes, path> or binary", "Name the column that holds the images."
    )


def as_image_lists(column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    """A column of images, or of lists of images, as lists of `IMAGE_TYPE`; a null image becomes an empty list.

    Raises:
        SchemaError: it is neither.
    """
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        whole = column.combine_chunks().cast(pa.list_(kind.value_type))
        flat = as_image_column(pa.chunked_array([whole.flatten()]), what).combine_chunks()
        rows, at = [], 0
        for length in whole.value_lengths().to_pylist():
            rows.append(flat.slice(at, length or 0))
            at += length or 0
    else:
        flat = as_image_column(column, what).combine_chunks()
        rows = [flat.slice(number, int(flat[number].is_valid)) for number in range(len(flat))]
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    values = pa.concat_arrays(rows) if rows else flat
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)]).cast(
        pa.list_(IMAGE_TYPE)
    )


def renamed(table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """`table` with the columns named in `columns` (record's name -> file's name) under the record's names."""
    for name, in_file in columns.items():
        if name != in_file and name in table.column_names:
            table = table.drop_columns([name])
    back = {in_file: name for name, in_file in columns.items()}
    return table.rename_columns([back.get(name, name) for name in table.column_names])


def _struct(data: pa.Array, path: pa.Array, is_null: pa.Array | None = None) -> pa.Array:
    nulls = data.is_null() if is_null is None else is_null
    return pa.StructArray.from_arrays([data, path], fields=list(IMAGE_TYPE), mask=nulls)


def _partition(position: int, file: ParquetFile, start: int, stop: int) -> Partition:
    name = file.path.rpartition("/")[2]
    what = [name, start, stop, file.bytes, file.changed_ns]
    return Partition(f"{position:05d}-{fingerprint(what)}", file.path, start, stop)
