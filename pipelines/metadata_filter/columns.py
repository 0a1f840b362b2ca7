"""Which column of a Parquet file holds which column of an `ImageRecord`, and how it becomes one.

Real collections disagree: WIDTH is int64 here and double there, SAMPLE_ID is text, an integer or a double.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.metadata_filter.sql import name_literal
from schemas.aliases import LAION_ALIASES, resolve_aliases
from schemas.errors import SchemaError
from schemas.record import check_version
from schemas.records import CAPTION_TYPE, IMAGE_RECORD, IMAGE_TYPE

SIZES = ("width", "height")
SCORES = ("aesthetic", "watermark", "unsafe", "similarity")
TEXTS = ("url", "caption", "nsfw", "language", "source_key", "source", "licence", "sha256", "md5")
ROW_NUMBER = "file_row_number"
"""Column that counts the rows of a file from 0, in every query."""
LARGEST_SIDE = 2**31 - 1
"""Widths and heights are int32 in an `ImageRecord`."""

_NESTED: dict[str, pa.DataType] = {"image": IMAGE_TYPE, "captions": pa.list_(CAPTION_TYPE)}


@dataclass(frozen=True)
class FileColumns:
    """The columns of one file.

    Args:
        names: `ImageRecord` column -> the file's column that holds it.
        types: the file's column -> its Arrow type; all columns of the file.
    """

    names: dict[str, str]
    types: dict[str, pa.DataType]

    @property
    def plain(self) -> bool:
        """Whether SQL, whose names do not differ in case alone, can call every column by its own name."""
        lower = {name.lower() for name in self.types}
        return len(lower) == len(self.types) and ROW_NUMBER not in lower

    def sql_name(self, name: str) -> str:
        """What the file's column `name` is called in a query, unquoted."""
        return name if self.plain else f"column{list(self.types).index(name)}"

    def sql(self, name: str) -> str:
        """The file's column `name` in a query."""
        return name_literal(self.sql_name(name))

    def text_sql(self, name: str, as_bytes: bool) -> str:
        """The file's column `name` as text in a query; null where it is no UTF-8.

        Args:
            as_bytes: texts come as bytes.
        """
        if holds_bytes(self.types[name], as_bytes):
            return f"TRY(decode({self.sql(name)}))"
        return self.sql(name)

    def find(self, name: str) -> str | None:
        """The file's column that a config calls `name`: its own name, or a spelling of the `ImageRecord` column that it
        holds; None where there is no such."""
        if name in self.types:
            return name
        return next((self.names.get(column) for column, spellings in LAION_ALIASES.items() if name in spellings), None)


def file_columns(schema: pa.Schema, path: str) -> FileColumns:
    """Map the columns of a file with `schema`.

    Raises:
        SchemaVersionError: the file was written by a newer editmill.
        SchemaError: there is no url column, two columns claim one meaning, or a column's type cannot hold it.
    """
    check_version(schema, IMAGE_RECORD)
    names = resolve_aliases(schema.names)
    for column, wanted in _NESTED.items():
        if column in schema.names and schema.field(column).type == wanted:
            names[column] = column
    if "url" not in names:
        raise SchemaError(
            f"{path}: url", schema.names, "no column holds the image's address", "Name it 'url' (see schemas/aliases)."
        )
    for column, name in names.items():
        found = schema.field(name).type
        right = is_number(found) if column in SIZES + SCORES else column in _NESTED or is_text(found, column)
        if not right:
            kind = "numbers" if column in SIZES + SCORES else "text"
            raise SchemaError(f"{path}: {name}", str(found), f"must hold {kind}", "Convert the column before.")
    return FileColumns(names, {field.name: field.type for field in schema})


def as_record_column(column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """`values` of a file as the `ImageRecord` column `column`: cast, and NaN as null.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit (the filter's rules reject such sizes before).
    """
    wanted = IMAGE_RECORD.fields.field(column).type
    if pa.types.is_floating(values.type):
        # Collections that went through pandas hold an integer id beside gaps as doubles: 12.0 is the id "12".
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        if column in TEXTS:
            whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
            as_integer = pc.if_else(whole, values, pa.scalar(0.0, values.type)).cast(pa.int64()).cast(pa.string())
            return pc.if_else(whole, as_integer, values.cast(pa.string()))
    return values.cast(wanted)


def holds_bytes(found: pa.DataType, as_bytes: bool) -> bool:
    """Whether a column of text comes as bytes in a query.

    Args:
        as_bytes: PyArrow reads, and hands texts on as bytes.
    """
    if pa.types.is_dictionary(found):
        return holds_bytes(found.value_type, as_bytes)
    is_text_type = pa.types.is_string(found) or pa.types.is_large_string(found)
    return (is_text_type and as_bytes) or pa.types.is_binary(found) or pa.types.is_large_binary(found)


def is_number(found: pa.DataType) -> bool:
    """Whether a type holds numbers."""
    kinds = pa.types
    return bool(kinds.is_integer(found) or kinds.is_floating(found) or kinds.is_decimal(found) or kinds.is_null(found))


def is_text(found: pa.DataType, column: str) -> bool:
    """Whether a type can hold the text column `column`; an address must be text, other texts may be numbers."""
    kinds = pa.types
    if kinds.is_dictionary(found):
        return is_text(found.value_type, column)
    if kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_binary(found) or kinds.is_large_binary(found):
        return True
    if column == "url":
        return False
    return bool(kinds.is_null(found) or kinds.is_integer(found) or kinds.is_floating(found) or kinds.is_boolean(found))
