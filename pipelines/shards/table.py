"""Record tables as Parquet shards hold them, and back.

A Parquet shard has the record's columns in the record's order. Two things differ from the table in memory, both for the
sake of `datasets.load_dataset("parquet")`: the schema carries `datasets`' own description of the columns, without which
images would show as structs, and a map column is a list of key/value structs, since `datasets` reads no Arrow maps.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from schemas.record import RecordSchema
from schemas.records import IMAGE_TYPE

_VALUE_NAMES = {pa.string(): "string", pa.int32(): "int32", pa.float32(): "float32", pa.float64(): "float64"}


def shard_schema(record: RecordSchema) -> pa.Schema:
    """The Arrow schema of a Parquet shard of `record`, with the metadata that `datasets` looks for."""
    fields = [pa.field(field.name, _stored_type(field.type)) for field in record.fields]
    features = {field.name: _feature(field.type) for field in fields}
    description = json.dumps({"info": {"features": features}}, sort_keys=True).encode()
    return pa.schema(fields, metadata={**record.arrow.metadata, b"huggingface": description})


def to_stored(table: pa.Table, record: RecordSchema) -> pa.Table:
    """A conforming table of `record` as a Parquet shard holds it; columns unknown to the record are left out."""
    schema = shard_schema(record)
    columns = []
    for field in schema:
        column = table[field.name]
        if pa.types.is_map(column.type):
            column = pa.chunked_array([_list_from_map(chunk, field.type) for chunk in column.chunks], field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def from_stored(table: pa.Table, record: RecordSchema) -> pa.Table:
    """The record's table from a Parquet shard's.

    Raises:
        SchemaVersionError, SchemaError: the table is no such record, or a newer one.
    """
    return record.conform(maps_from_lists(table, record))


def maps_from_lists(table: pa.Table, record: RecordSchema) -> pa.Table:
    """`table` with the record's map columns as Arrow maps, where they are lists of key/value structs."""
    for field in record.fields:
        if not pa.types.is_map(field.type) or field.name not in table.column_names:
            continue
        column = table[field.name]
        if pa.types.is_map(column.type):
            continue
        values = [None if row is None else [(pair["key"], pair["value"]) for pair in row] for row in column.to_pylist()]
        table = table.set_column(table.column_names.index(field.name), field, pa.array(values, field.type))
    return table


def _list_from_map(array: pa.Array, list_type: pa.DataType) -> pa.Array:
    values = [
        None if row is None else [{"key": key, "value": value} for key, value in row] for row in array.to_pylist()
    ]
    return pa.array(values, list_type)


def _stored_type(arrow_type: pa.DataType) -> pa.DataType:
    if pa.types.is_map(arrow_type):
        return pa.list_(pa.struct([pa.field("key", arrow_type.key_type), pa.field("value", arrow_type.item_type)]))
    return arrow_type


def _feature(arrow_type: pa.DataType) -> dict[str, Any]:
    if arrow_type == IMAGE_TYPE:
        return {"_type": "Image"}
    if pa.types.is_list(arrow_type):
        return {"_type": "List", "feature": _feature(arrow_type.value_type)}
    if pa.types.is_struct(arrow_type):
        return {field.name: _feature(field.type) for field in arrow_type}
    return {"_type": "Value", "dtype": _VALUE_NAMES[arrow_type]}
