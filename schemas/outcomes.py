"""The outcome record: what became of a row at a step. For every step, rows in = rows kept + rows rejected."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from schemas.record import RecordSchema

KEPT = "kept"
REJECTED = "rejected"

OUTCOME = RecordSchema(
    "Outcome",
    1,
    pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("step", pa.string(), nullable=False),
            pa.field("step_version", pa.int32(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),
            pa.field("reason", pa.string()),
            pa.field("sentence", pa.string()),
        ]
    ),
)
"""`outcome` is "kept" or "rejected"; a rejected row has a `reason` (snake_case, stable) and a `sentence` for people."""


def rejections(
    step: str, step_version: int, keys: Sequence[str], reasons: Sequence[str], sentences: Sequence[str]
) -> pa.Table:
    """A table of rejected outcomes, one a row, in the order given. The four sequences have equal length."""
    count = len(keys)
    return pa.Table.from_arrays(
        [
            pa.array(keys, pa.string()),
            pa.array([step] * count, pa.string()),
            pa.array([step_version] * count, pa.int32()),
            pa.array([REJECTED] * count, pa.string()),
            pa.array(reasons, pa.string()),
            pa.array(sentences, pa.string()),
        ],
        schema=OUTCOME.arrow,
    )


def no_rejections() -> pa.Table:
    """An empty outcome table."""
    return OUTCOME.arrow.empty_table()
