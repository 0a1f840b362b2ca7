"""What every record schema can do: name its version, check a table, and refuse a newer one."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from schemas.errors import SchemaError, SchemaVersionError

VERSION_KEY = b"editmill.schema_version"
NAME_KEY = b"editmill.schema"


@dataclass(frozen=True)
class RecordSchema:
    """An Arrow schema with a name and a version.

    Args:
        name: the record's name, as the documentation calls it.
        version: integer >= 1, raised by one at each incompatible change.
        fields: every column of the record. A non-nullable field must be present and free of nulls; a nullable one may
            be absent.
    """

    name: str
    version: int
    fields: pa.Schema

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, with name and version in its metadata."""
        return self.fields.with_metadata({NAME_KEY: self.name.encode(), VERSION_KEY: str(self.version).encode()})

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the columns that must be present and free of nulls."""
        return tuple(field.name for field in self.fields if not field.nullable)

    def check(self, table: pa.Table) -> None:
        """Check that `table` is this record: version, required columns, types, no nulls where none may be.

        Columns that the record does not know are allowed: they travel along.

        Raises:
            SchemaVersionError: the table says it was written with a newer version.
            SchemaError: a column is missing, has another type, or holds nulls it must not.
        """
        check_version(table.schema, self)
        for field in self.fields:
            if field.name not in table.column_names:
                if field.nullable:
                    continue
                raise SchemaError(
                    f"{self.name}.{field.name}",
                    table.column_names,
                    f"column '{field.name}' is missing",
                    f"Add it as {field.type}, or rename the column that holds it.",
                )
            column = table[field.name]
            if column.type != field.type:
                raise SchemaError(
                    f"{self.name}.{field.name}",
                    str(column.type),
                    f"must have the Arrow type {field.type}",
                    "Cast the column, or conform the table with RecordSchema.conform.",
                )
            if not field.nullable and column.null_count:
                raise SchemaError(
                    f"{self.name}.{field.name}",
                    f"{column.null_count} nulls",
                    "must not be null",
                    "Fill the column, or drop these rows before.",
                )

    def conform(self, table: pa.Table) -> pa.Table:
        """`table` with this record's columns first, in order, cast to their types, absent nullable ones as nulls.

        Unknown columns keep their place behind. The result passes `check`.

        Raises:
            SchemaVersionError, SchemaError: as `check`; also where a cast would lose data.
        """
        check_version(table.schema, self)
        columns: list[pa.ChunkedArray | pa.Array] = []
        fields: list[pa.Field] = []
        for field in self.fields:
            if field.name in table.column_names:
                try:
                    columns.append(table[field.name].cast(field.type))
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                    raise SchemaError(
                        f"{self.name}.{field.name}",
                        str(table[field.name].type),
                        f"cannot be cast to {field.type} ({error})",
                        "Convert the column before.",
                    ) from error
            else:
                columns.append(pa.nulls(table.num_rows, field.type))
            fields.append(field.with_nullable(True))
        for name in table.column_names:
            if name not in self.fields.names:
                columns.append(table[name])
                fields.append(table.schema.field(name))
        result = pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=self.arrow.metadata))
        self.check(result)
        return result


def check_version(schema: pa.Schema, record: RecordSchema) -> None:
    """Refuse a table or file whose metadata names a newer version of `record`.

    Raises:
        SchemaVersionError: the version found is greater than `record.version`.
    """
    metadata = schema.metadata or {}
    if metadata.get(NAME_KEY, record.name.encode()) != record.name.encode():
        return
    found = int(metadata.get(VERSION_KEY, b"1"))
    if found > record.version:
        raise SchemaVersionError(
            f"{record.name} schema version",
            found,
            f"this editmill reads versions up to {record.version}",
            "Upgrade editmill to read this file.",
        )
