"""How a table is written in a run folder: which bytes, and what they come to for many more rows."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 256
"""Rows in a row group: small, because rows hold images and viewers read whole row groups."""
PLAIN_ROW_GROUP = 16_384
"""The same where no row holds bytes."""


def table_bytes(table: pa.Table, exact: bool = False) -> bytes:
    """The Parquet file of a table; the same for equal tables, however they came about.

    Args:
        exact: lists keep the name of their Arrow child field, which Parquet's own naming would change, so that what is
            read is what was written.
    """
    stream = pa.BufferOutputStream()
    rows = ROW_GROUP if _has_bytes(table) else PLAIN_ROW_GROUP
    # Addresses, captions, keys and images hardly repeat, and what does zstd finds: dictionaries cost time and bytes.
    options = {"compression": "zstd", "use_dictionary": False, "use_compliant_nested_type": not exact}
    with pq.ParquetWriter(stream, table.schema, **options) as writer:
        for start in range(0, max(1, table.num_rows), rows):
            # One chunk a column, so that the bytes do not depend on how the table came about.
            writer.write_table(table.slice(start, rows).combine_chunks(), rows)
    return stream.getvalue().to_pybytes()


def bytes_of_rows(table: pa.Table) -> tuple[int, int]:
    """Bytes that the rows take in such a file, and what every file has besides them."""
    data = table_bytes(table)
    footer = pq.read_metadata(pa.BufferReader(data))
    groups = [footer.row_group(place) for place in range(footer.num_row_groups)]
    rows = sum(group.column(place).total_compressed_size for group in groups for place in range(group.num_columns))
    return (rows, len(data) - rows) if table.num_rows else (0, len(data))


def _has_bytes(table: pa.Table) -> bool:
    """Whether any row has a value in a column of bytes."""
    columns = zip(table.schema.types, table.columns, strict=True)
    return any(_holds_bytes(found) and column.null_count < len(column) for found, column in columns)


def _holds_bytes(found: pa.DataType) -> bool:
    inside = (found.field(place).type for place in range(found.num_fields))
    return pa.types.is_binary(found) or pa.types.is_large_binary(found) or any(_holds_bytes(one) for one in inside)
