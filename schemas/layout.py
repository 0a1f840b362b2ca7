"""The shard layout: names of files and members, and how aspect buckets are told.

A packed folder holds `webdataset/` and `parquet/` (each by choice), `index.parquet`, `manifest.json`, and the dataset
card `README.md`, which tells people what the manifest says. Parquet shards have a folder of their own so that a reader
pointed at it meets nothing else.
"""

from __future__ import annotations

import math

import pyarrow as pa

from schemas.record import RecordSchema

MANIFEST_NAME = "manifest.json"
CARD_NAME = "README.md"
INDEX_NAME = "index.parquet"
WEBDATASET_FOLDER = "webdataset"
PARQUET_FOLDER = "parquet"

BUCKETS: dict[str, float] = {
    "9:16": 9 / 16,
    "2:3": 2 / 3,
    "3:4": 3 / 4,
    "1:1": 1.0,
    "4:3": 4 / 3,
    "3:2": 3 / 2,
    "16:9": 16 / 9,
}
"""Aspect buckets by name: width over height."""

INDEX = RecordSchema(
    "ShardIndex",
    1,
    pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("shard", pa.string(), nullable=False),
            pa.field("offset", pa.int64(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("parquet_shard", pa.string()),
            pa.field("parquet_row", pa.int64()),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("bucket", pa.string(), nullable=False),
            pa.field("edited_fraction", pa.float64()),
            pa.field("mask_status", pa.string()),
            pa.field("edit_type", pa.string()),
            pa.field("source", pa.string()),
            pa.field("source_key", pa.string()),
            pa.field("subset", pa.string()),
        ]
    ),
)
"""One row a sample, in shard order. `shard` is relative to the packed folder; the sample's members are the bytes
[offset, offset + size) of that tar, headers and padding included, so that they are a readable tar by themselves.
Where no WebDataset shards were written, `shard` is the Parquet shard, `offset` the row in it and `size` 0.
`edited_fraction`, `mask_status` and `edit_type` are null for image-caption shards, where they have no meaning.
`source_key`: what finds the row in its data set again. `subset`: null where there are none. An index from before there
were the last two lacks them."""


def shard_name(prefix: str, number: int, suffix: str, subset: str | None = None) -> str:
    """`edits-000000.tar`, `edits-train-000000.tar` and the like; `suffix` without a dot."""
    stem = prefix if subset is None else f"{prefix}-{subset}"
    return f"{stem}-{number:06d}.{suffix}"


def reference_member(position: int) -> str:
    """Member name of a reference image: `reference`, `reference1`, `reference2`, ... (`position` counts from 0)."""
    return "reference" if position == 0 else f"reference{position}"


def aspect_bucket(width: int, height: int) -> str:
    """Name of the bucket whose aspect ratio is nearest to width / height, on a logarithmic scale."""
    ratio = math.log(width / height)
    return min(BUCKETS, key=lambda name: abs(math.log(BUCKETS[name]) - ratio))
