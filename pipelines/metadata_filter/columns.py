"""Which column of a Parquet file holds which column of an `ImageRecord`, and how it becomes one.

Real collections disagree: WIDTH is int64 here and double there, SAMPLE_ID is text, an integer or a double.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.aliases import resolve_aliases
from schemas.errors import SchemaError
from schemas.record import check_version
from schemas.records import CAPTION_TYPE, IMAGE_RECORD, IMAGE_TYPE

SIZES = ("width", "height")
SCORES = ("aesthetic", "watermark", "unsafe", "similarity")
TEXTS = ("url", "caption", "nsfw", "language", "source_key", "source", "licence", "sha256", "md5")
LARGEST_SIDE = 2**31 - 1
"""Widths and heights are int32 in an `ImageRecord`."""

_NESTED: dict[str, pa.DataType] = {"image": IMAGE_TYPE, "captions": pa.list_(CAPTION_TYPE)}


@dataclass(frozen=True)
class FileColumns:
    """The useful columns of one file.

    Args:
        names: `ImageRecord` column -> the file's column.
        types: `ImageRecord` column -> the Arrow type that the file has for it.
    """

    names: dict[str, str]
    types: dict[str, pa.DataType]

    def field(self, column: str) -> pc.Expression:
        """The file's column as a scan expression."""
        return pc.field(self.names[column])


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
    types = {column: schema.field(name).type for column, name in names.items()}
    if "url" not in names:
        raise SchemaError(
            f"{path}: url", schema.names, "no column holds the image's address", "Name it 'url' (see schemas/aliases)."
        )
    for column, found in types.items():
        right = _is_number(found) if column in SIZES + SCORES else column in _NESTED or _is_text(found, column)
        if not right:
            kind = "numbers" if column in SIZES + SCORES else "text"
            raise SchemaError(f"{path}: {names[column]}", str(found), f"must hold {kind}", "Convert the column before.")
    return FileColumns(names, types)


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


def _is_number(found: pa.DataType) -> bool:
    kinds = pa.types
    return bool(kinds.is_integer(found) or kinds.is_floating(found) or kinds.is_decimal(found) or kinds.is_null(found))


def _is_text(found: pa.DataType, column: str) -> bool:
    kinds = pa.types
    if kinds.is_dictionary(found):
        return _is_text(found.value_type, column)
    if kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_binary(found) or kinds.is_large_binary(found):
        return True
    if column == "url":
        return False
    return bool(kinds.is_null(found) or kinds.is_integer(found) or kinds.is_floating(found) or kinds.is_boolean(found))
