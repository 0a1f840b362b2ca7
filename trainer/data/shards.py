"""The indexes of packed folders, as plain arrays: no shard is unpacked, no order is imposed.

Ten million samples take half a gigabyte, once on each rank, and some seconds to open; the loader's workers are told
where to read, and hold none of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import InputError, ShardError
from schemas.keys import KEY_LENGTH
from schemas.layout import INDEX, INDEX_NAME
from schemas.manifest import ShardManifest, read_manifest
from schemas.masks import MaskStatus

_ROWS_AT_ONCE = 1 << 18
_COLUMNS = ("key", "shard", "offset", "size", "width", "height", "edited_fraction", "mask_status", "subset")
_PLAIN = ("offsets", "sizes", "widths", "heights", "edited_fractions", "statuses", "datasets")
STATUSES = ("none", *MaskStatus)
"""Mask statuses by their number in an index; `none` for images with captions."""

# The value of each hexadecimal digit; 255 for every other byte.
_DIGITS = np.full(256, 255, dtype=np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16, dtype=np.uint8)


@dataclass(frozen=True)
class ShardIndex:
    """The samples of packed folders that a run may take, in the order of folders and index.

    Args:
        shards: every shard.
        left_out: mask status, or `subset NAME` -> samples left out for it.
        keys: (N, 16) uint8, the keys' bytes.
        shard_of: (N,) int32, position in `shards`.
        offsets, sizes: (N,) int64, of the sample in its shard, in bytes.
        widths, heights: (N,) int32, of the upright picture that it trains, in pixels.
        edited_fractions: (N,) float32, in 0..1; not a number for images with captions.
        statuses: (N,) uint8, position in `STATUSES` of the mask's.
        datasets: (N,) uint8, position in the mixture.
    """

    shards: tuple[Path, ...]
    left_out: dict[str, int]
    keys: npt.NDArray[np.uint8]
    shard_of: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int32]
    heights: npt.NDArray[np.int32]
    edited_fractions: npt.NDArray[np.float32]
    statuses: npt.NDArray[np.uint8]
    datasets: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offsets)

    def key(self, sample: int) -> str:
        """The key of a sample (0 <= sample < len)."""
        return self.keys[sample].tobytes().hex()

    def count_of(self, keys: Collection[str]) -> int:
        """How many of the samples have one of these keys."""
        whole = np.dtype((np.void, self.keys.shape[1]))
        wanted = np.frombuffer(b"".join(bytes.fromhex(key) for key in keys), dtype=whole)
        return int(np.isin(np.ascontiguousarray(self.keys).view(whole)[:, 0], wanted).sum())

    def shard(self, sample: int) -> Path:
        """The shard that holds a sample."""
        return self.shards[int(self.shard_of[sample])]

    def span(self, sample: int) -> tuple[int, int]:
        """Offset and size in bytes of a sample in its shard."""
        return int(self.offsets[sample]), int(self.sizes[sample])

    def area(self, sample: int) -> tuple[float, str]:
        """Edited fraction (0..1) and status of a sample's stored mask, as the index states them."""
        return float(self.edited_fractions[sample]), STATUSES[int(self.statuses[sample])]


def open_shards(folders: Sequence[Path], statuses: Collection[str], subsets: Collection[str]) -> ShardIndex:
    """Read the indexes and look, before anything else starts, that the shards they name are there and whole.

    Args:
        statuses: mask statuses to take; images with captions have none, and are all taken.
        subsets: subsets to take, of folders that were packed in subsets.

    Raises:
        InputError: no packed folder, or one without WebDataset shards, or with none of the subsets.
        ShardError: a shard or the index is missing, has not the size that the manifest states, or cannot be used.
        SchemaError, SchemaVersionError: the index is none of ours, or is newer.
    """
    return joined([_open_folder(folder, statuses, subsets) for folder in folders])


def joined(indexes: Sequence[ShardIndex]) -> ShardIndex:
    """Several indexes as one, one after the other."""
    if len(indexes) == 1:
        return indexes[0]
    left_out: Counter[str] = Counter()
    for index in indexes:
        left_out.update(index.left_out)
    firsts = accumulate((len(index.shards) for index in indexes), initial=0)
    return ShardIndex(
        tuple(shard for index in indexes for shard in index.shards),
        dict(left_out),
        np.concatenate([index.keys for index in indexes]),
        np.concatenate([index.shard_of + np.int32(first) for index, first in zip(indexes, firsts, strict=False)]),
        *(np.concatenate([getattr(index, name) for index in indexes]) for name in _PLAIN),
    )


def _open_folder(folder: Path, statuses: Collection[str], subsets: Collection[str]) -> ShardIndex:
    manifest = read_manifest(folder)
    shards = _check_files(folder, manifest)
    other_subsets: Counter[str] = Counter()
    other_statuses: Counter[str] = Counter()
    numbers = {name: number for number, name in enumerate(shards)}
    in_subsets, filled = 0, 0
    columns: list[npt.NDArray[Any]] = []
    for table, left in _tables(folder):
        if "subset" in table.column_names:
            names = table["subset"]
            table = _taken(table, names, pc.or_(pc.is_null(names), _among(names, subsets)), other_subsets)
        in_subsets += table.num_rows
        if manifest.record == "EditSample":
            status = pc.fill_null(table["mask_status"], "none")
            table = _taken(table, status, _among(status, statuses), other_statuses)
        arrays = _arrays(table, folder, numbers)
        # Filled in place: pieces that are put together at the end would take twice the memory.
        columns = columns or [np.empty((left, *array.shape[1:]), dtype=array.dtype) for array in arrays]
        for column, array in zip(columns, arrays, strict=True):
            column[filled : filled + table.num_rows] = array
        filled += table.num_rows
    if other_subsets and not in_subsets:
        mend = f"Name one of them: subsets: [{min(other_subsets)}]."
        raise InputError("subsets", sorted(subsets), f"are none of {folder}, which has {sorted(other_subsets)}", mend)
    left_out = {f"subset {name}": samples for name, samples in other_subsets.items()} | dict(other_statuses)
    pa.default_memory_pool().release_unused()
    return ShardIndex(tuple(folder / name for name in shards), left_out, *(column[:filled] for column in columns))


def _tables(folder: Path) -> Iterator[tuple[pa.Table, int]]:
    """The index, some rows at a time, and how many are left with these; an empty table at least."""
    path = folder / INDEX_NAME
    try:
        with pq.ParquetFile(path) as file:
            INDEX.check(file.schema_arrow.empty_table())
            columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
            left = file.metadata.num_rows
            yield file.schema_arrow.empty_table().select(columns), left
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                yield pa.Table.from_batches([batch]), left
                left -= batch.num_rows
    except (OSError, pa.ArrowInvalid) as error:
        raise ShardError("index", str(path), f"cannot be read ({error})", "Pack again.") from error


def _among(names: pa.ChunkedArray, wanted: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(names, value_set=pa.array(sorted(wanted), pa.string()))


def _taken(table: pa.Table, names: pa.ChunkedArray, taken: pa.ChunkedArray, others: Counter[str]) -> pa.Table:
    """The rows to take; the others are counted by name."""
    if pc.all(taken).as_py() is not False:
        return table
    for entry in pc.value_counts(names.filter(pc.invert(taken))):
        others[entry["values"].as_py()] += entry["counts"].as_py()
    return table.filter(taken)


def _arrays(table: pa.Table, folder: Path, numbers: dict[str, int]) -> tuple[npt.NDArray[Any], ...]:
    """The fields of `ShardIndex` from `keys` to `datasets`."""
    for name in ("key", "shard", "offset", "size", "width", "height"):
        if table[name].null_count:
            raise ShardError("index", str(folder / INDEX_NAME), f"has nulls in the column '{name}'", "Pack again.")
    widths, heights = table["width"].to_numpy(), table["height"].to_numpy()
    if table.num_rows and min(widths.min(), heights.min()) < 1:
        raise ShardError(
            "index",
            str(folder / INDEX_NAME),
            "holds pictures without width or height, so that they have no aspect ratio",
            "Pack again with this editmill.",
        )
    shards = table["shard"].combine_chunks().dictionary_encode()
    unknown = set(shards.dictionary.to_pylist()) - numbers.keys()
    if unknown:
        raise ShardError(
            "index", str(folder / INDEX_NAME), f"names {min(unknown)}, which the manifest does not", "Pack again."
        )
    number_of = np.array([numbers[name] for name in shards.dictionary.to_pylist()], dtype=np.int32)
    return (
        _key_bytes(table["key"], folder),
        number_of[shards.indices.to_numpy()] if table.num_rows else np.empty(0, dtype=np.int32),
        table["offset"].to_numpy(),
        table["size"].to_numpy(),
        widths,
        heights,
        table["edited_fraction"].cast(pa.float32()).fill_null(float("nan")).to_numpy(),
        _numbers_of(table["mask_status"]),
        np.zeros(table.num_rows, dtype=np.uint8),
    )


def _numbers_of(statuses: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """The positions in `STATUSES`; of nulls, and of a status that this editmill does not know, that of `none`."""
    numbers = pc.fill_null(pc.index_in(statuses, value_set=pa.array(STATUSES, pa.string())), 0)
    return np.asarray(numbers.to_numpy(), dtype=np.uint8)


def _key_bytes(column: pa.ChunkedArray, folder: Path) -> npt.NDArray[np.uint8]:
    """Keys of 32 hexadecimal digits as (N, 16) bytes, half of what their texts take."""
    texts = column.combine_chunks()
    samples = len(texts)
    if not samples:
        return np.empty((0, KEY_LENGTH // 2), dtype=np.uint8)
    digits = np.full(0, 255, dtype=np.uint8)
    if pc.all(pc.equal(pc.binary_length(texts), KEY_LENGTH)).as_py():
        start = texts.offset * KEY_LENGTH
        digits = _DIGITS[np.frombuffer(texts.buffers()[2], dtype=np.uint8)[start : start + samples * KEY_LENGTH]]
    if not digits.size or digits.max() > 15:
        raise ShardError(
            "index", str(folder / INDEX_NAME), f"holds keys that are not {KEY_LENGTH} hexadecimal digits", "Pack again."
        )
    pairs: npt.NDArray[np.uint8] = np.left_shift(digits[0::2], np.uint8(4)) | digits[1::2]
    return pairs.reshape(samples, KEY_LENGTH // 2)


def _check_files(folder: Path, manifest: ShardManifest) -> tuple[str, ...]:
    """The names of the shards, once each file has the size that the manifest states."""
    shards = [entry for entry in manifest.shards if entry.format == "webdataset"]
    if not shards:
        raise InputError(
            "shards", str(folder), "hold no WebDataset shards", "Pack again with the webdataset format among them."
        )
    for entry in [*shards, manifest.index]:
        path = folder / entry.name
        found = path.stat().st_size if path.is_file() else None
        if found != entry.bytes:
            raise ShardError(
                "shard",
                str(path),
                "is missing" if found is None else f"has {found} bytes where the manifest states {entry.bytes}",
                "See `editmill validate`, and pack again.",
            )
    return tuple(entry.name for entry in shards)
