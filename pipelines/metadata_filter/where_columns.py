"""A config's `where` over the columns of a file."""

from __future__ import annotations

import pyarrow as pa

from pipelines.metadata_filter.columns import FileColumns, holds_bytes, is_number
from pipelines.metadata_filter.config import MetadataFilterConfig
from pipelines.metadata_filter.where_bind import BoundColumn, BoundWhere, bind_where
from pipelines.metadata_filter.where_parse import parse_where
from schemas.errors import SchemaError


def bind_to(config: MetadataFilterConfig, columns: FileColumns, path: str, as_bytes: bool) -> BoundWhere | None:
    """`config.where` over a file, its columns by the file's own names; None where there is none.

    Args:
        path: of the file, for errors.
        as_bytes: texts come as bytes.

    Raises:
        SchemaError: a column that the file lacks, or types that do not go together.
    """
    if config.where is None:
        return None
    used: list[str] = []

    def find(name: str) -> BoundColumn | None:
        found = columns.find(name)
        if found is None:
            return None
        used.append(found)
        return _bound(columns, found, as_bytes)

    try:
        bound = bind_where(config.where, parse_where(config.where), find, [*columns.names, *columns.types])
    except ValueError as error:
        raise SchemaError(f"{path}: where", config.where, str(error), "Correct the expression.") from error
    return BoundWhere(bound.sql, tuple(dict.fromkeys(used)))


def _bound(columns: FileColumns, name: str, as_bytes: bool) -> BoundColumn | None:
    found, sql = columns.types[name], columns.sql(name)
    if pa.types.is_boolean(found):
        return BoundColumn("boolean", sql)
    if pa.types.is_floating(found):
        present = f"(CASE WHEN isnan({sql}) THEN NULL ELSE {sql} END)"
        return BoundColumn("number", present, single=found == pa.float32())
    if is_number(found):
        return BoundColumn("number", f"{sql}::DOUBLE")
    value = found.value_type if pa.types.is_dictionary(found) else found
    if pa.types.is_string(value) or pa.types.is_large_string(value) or holds_bytes(value, as_bytes):
        return BoundColumn("text", columns.text_sql(name, as_bytes))
    return None
