"""The outcome record: what became of a row at a step. For every step, rows in = rows kept + rows rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from schemas.atomic import canonical_json
from schemas.record import RecordSchema

KEPT = "kept"
REJECTED = "rejected"

OUTCOME = RecordSchema(
    "Outcome",
    2,
    pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("step", pa.string(), nullable=False),
            pa.field("step_version", pa.int32(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),
            pa.field("reason", pa.string()),
            pa.field("sentence", pa.string()),
            pa.field("source", pa.string()),
            pa.field("evidence", pa.string()),
        ]
    ),
)
"""`outcome` is "kept" or "rejected"; a rejected row has a `reason` (snake_case, stable) and a `sentence` for people.
`source`: the data set it comes from, as its record said, or null. `evidence`: canonical JSON of what the step measured
of the row and decided by, under the names of the record's columns where it has such, or null. Version 1 had neither."""


def rejections(
    step: str,
    step_version: int,
    keys: Sequence[str],
    reasons: Sequence[str],
    sentences: Sequence[str],
    sources: Sequence[str | None] | None = None,
    evidence: Sequence[Mapping[str, Any] | None] | None = None,
) -> pa.Table:
    """A table of rejected outcomes, one a row, in the order given. The sequences have equal length; None for nulls."""
    count = len(keys)
    grounds = None if evidence is None else [None if one is None else canonical_json(dict(one)) for one in evidence]
    return pa.Table.from_arrays(
        [
            pa.array(keys, pa.string()),
            pa.array([step] * count, pa.string()),
            pa.array([step_version] * count, pa.int32()),
            pa.array([REJECTED] * count, pa.string()),
            pa.array(reasons, pa.string()),
            pa.array(sentences, pa.string()),
            pa.nulls(count, pa.string()) if sources is None else pa.array(sources, pa.string()),
            pa.nulls(count, pa.string()) if grounds is None else pa.array(grounds, pa.string()),
        ],
        schema=OUTCOME.arrow,
    )


def up_to_date(outcomes: pa.Table) -> pa.Table:
    """An outcome table of this or an older version as one of this version; columns it lacks are nulls.

    Raises:
        SchemaVersionError, SchemaError: as `RecordSchema.check`.
    """
    columns = OUTCOME.conform(outcomes).select(OUTCOME.fields.names).columns
    return pa.Table.from_arrays(columns, schema=OUTCOME.arrow)


def no_rejections() -> pa.Table:
    """An empty outcome table."""
    return OUTCOME.arrow.empty_table()
