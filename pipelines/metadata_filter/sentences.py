"""Sentences for rejected rows, for many rows at once."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

Sentences = Callable[[pa.Table], pa.ChunkedArray]
"""From a table of failing rows with the `ImageRecord` columns under the file's types, one sentence each."""


def aspect_sentences(bound: float) -> Sentences:
    """Sentences on a side ratio above `bound`."""

    def sentences(table: pa.Table) -> pa.ChunkedArray:
        wide, high = table["width"].cast(pa.float64()), table["height"].cast(pa.float64())
        ratio = pc.round(pc.divide(pc.max_element_wise(wide, high), pc.min_element_wise(wide, high)), 3)
        parts = (table["width"], " x ", table["height"], " pixels is ", ratio, f":1, more than the maximum {bound:g}:1")
        return _join(table.num_rows, *parts)

    return sentences


def say(*parts: str) -> Sentences:
    """Sentences made of fixed text at the even places of `parts` and of columns named at the odd ones."""

    def sentences(table: pa.Table) -> pa.ChunkedArray:
        pieces = [part if place % 2 == 0 else table[part] for place, part in enumerate(parts)]
        return _join(table.num_rows, *pieces)

    return sentences


def _join(rows: int, *parts: str | pa.ChunkedArray) -> pa.ChunkedArray:
    texts = [pa.scalar(part) if isinstance(part, str) else pc.fill_null(part.cast(pa.string()), "?") for part in parts]
    joined = pc.binary_join_element_wise(*texts, "") if len(texts) > 1 else pa.repeat(texts[0], rows)
    return joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined])
