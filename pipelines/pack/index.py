"""The index, written from the commit records of the shards, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.pack.hashed import Hashed
from schemas.atomic import write_whole
from schemas.layout import INDEX, INDEX_NAME, aspect_bucket
from schemas.manifest import FileEntry

ROW_GROUP = 65_536
"""Rows of a row group of the index."""


def index_values(row: Mapping[str, Any], width: int, height: int, subset: str | None) -> dict[str, Any]:
    """What the index says of a sample wherever it lies.

    Args:
        width, height: of the upright image that it trains, in pixels.
    """
    return {
        "key": row["key"],
        "parquet_shard": None,
        "parquet_row": None,
        "width": width,
        "height": height,
        "bucket": aspect_bucket(width, height),
        "edited_fraction": row.get("edited_fraction"),
        "mask_status": row.get("mask_status"),
        "edit_type": row.get("edit_type"),
        "source": row.get("source"),
        "source_key": row.get("source_key"),
        "subset": subset,
    }


class IndexWriter:
    """Writes the index row group by row group; the bytes depend on the rows alone."""

    def __init__(self, stream: Hashed) -> None:
        self._writer = pq.ParquetWriter(stream, INDEX.arrow, version="2.6", compression="snappy", use_dictionary=False)
        self._held: list[pa.Table] = []
        self._rows = 0
        self.written = 0
        """Rows added."""

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of a shard."""
        self._held.append(pa.Table.from_pylist(list(rows), schema=INDEX.arrow))
        self._rows += len(rows)
        self.written += len(rows)
        while self._rows >= ROW_GROUP:
            self._write(ROW_GROUP)

    def close(self) -> None:
        """Write what is left, and the footer."""
        if self._rows or not self.written:
            self._write(self._rows)
        self._writer.close()

    def _write(self, rows: int) -> None:
        held = pa.concat_tables([INDEX.arrow.empty_table(), *self._held]).combine_chunks()
        self._writer.write_table(held.slice(0, rows), row_group_size=max(rows, 1))
        rest = held.slice(rows)
        self._held, self._rows = [rest], rest.num_rows


def write_index(out: Path, shards: Iterable[Sequence[Mapping[str, Any]]]) -> FileEntry:
    """Write the index of `shards`, each the rows of one, as they are asked for; whole or not at all."""
    with write_whole(out / INDEX_NAME) as stream:
        hashed = Hashed(stream)
        writer = IndexWriter(hashed)
        for rows in shards:
            writer.add(rows)
        writer.close()
    return hashed.entry(INDEX_NAME, "index", writer.written)
