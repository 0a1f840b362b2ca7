"""From hashes as rows carry them to the columns that are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.deduplicate.hamming import I64, U64, Points
from pipelines.deduplicate.hash_step import CONTENT_BYTES


@dataclass(frozen=True)
class Images:
    """The hashed images of rows. Shape legend: N rows, E images in all; those of row i are start[i] ... start[i + 1].

    Args:
        start: (N + 1,) int64.
        content: E x `CONTENT_BYTES` bytes, one after the other.
        perceptual: (E,) uint64, 0 where flat.
        flat: (E,) bool: the image has no perceptual hash.
    """

    start: I64
    content: bytes
    perceptual: U64
    flat: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.start) - 1

    def contents(self, row: int) -> bytes:
        """The content hashes of a row's images, in order."""
        return self.content[self.start[row] * CONTENT_BYTES : self.start[row + 1] * CONTENT_BYTES]

    def contents_of_each(self, row: int) -> list[bytes]:
        """The content hash of each of a row's images, in order."""
        contents = self.contents(row)
        return [contents[place : place + CONTENT_BYTES] for place in range(0, len(contents), CONTENT_BYTES)]

    def content_codes(self) -> I64:
        """(N,) int64: equal for rows whose images are the same files in the same order."""
        offsets = pa.array(self.start * CONTENT_BYTES, pa.int64()).buffers()[1]
        rows = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(self), [None, offsets, pa.py_buffer(self.content)]
        )
        return codes_of(rows)


def codes_of(values: pa.Array | pa.ChunkedArray) -> I64:
    """(N,) int64: equal for equal values."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return np.asarray(whole.dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False), np.int64)


def images_of(column: pa.ChunkedArray, only: str | None = None) -> Images:
    """The images in a column `image_hashes`.

    Args:
        only: take no others than those of this image column.
    """
    lists = column.combine_chunks()
    parents = pc.list_parent_indices(lists)
    entries = pc.list_flatten(lists)
    if only is not None:
        chosen = pc.equal(entries.field("column"), only)
        entries, parents = entries.filter(chosen), parents.filter(chosen)
    counts = np.bincount(parents.to_numpy(), minlength=len(lists))
    perceptual = entries.field("perceptual")
    content = entries.field("content")
    return Images(
        np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        content.buffers()[1].slice(content.offset * CONTENT_BYTES, len(content) * CONTENT_BYTES).to_pybytes(),
        np.asarray(pc.fill_null(perceptual, 0).to_numpy(zero_copy_only=False), np.uint64),
        np.asarray(perceptual.is_null().to_numpy(zero_copy_only=False)),
    )


def row_points(images: Images, groups: I64, rows: I64) -> Points:
    """One point a row, near where as many images are near one by one, in order; the last one, the target, is indexed.

    Args:
        groups: (N,) int64 >= 0: only rows of one group are compared.
        rows: the rows to take, ascending; their images are not flat.
    """
    start, counts = images.start[:-1][rows], np.diff(images.start)[rows]
    widest = int(counts.max(initial=1))
    hashes = np.zeros((len(rows), widest), np.uint64)
    for place in range(widest):
        has = counts > place
        # Rows with fewer images are filled up with zeros, and are of another group than those with more.
        hashes[has, place] = images.perceptual[(start + counts - 1 - place)[has]]
    _, group = np.unique(groups[rows] * (widest + 1) + counts, return_inverse=True)
    return Points(hashes, np.asarray(group, np.uint64), rows)


def image_points(images: Images) -> Points:
    """One point an image; flat images are left out."""
    owner = np.repeat(np.arange(len(images)), np.diff(images.start))
    some = ~images.flat
    hashes = images.perceptual[some][:, None]
    return Points(hashes, np.zeros(len(hashes), np.uint64), owner[some])


def rows_with_flat_images(images: Images) -> npt.NDArray[np.bool_]:
    """(N,) bool: the row has a flat image, or no image at all."""
    flat_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(images.flat)])
    has_flat = np.diff(flat_before[images.start]) > 0
    return np.asarray(has_flat | (np.diff(images.start) == 0))
