"""The first look at a partition: which rows can be packed, how large each is, and a digest of its content.

Everything that may reject a row happens here, before a shard is written, and only image headers are looked at. The
digests make the folder's fingerprint: a restart reads the input once more, and in exchange a changed input is never
mixed with shards of the old one.

What is known of a sample is held for all of them together while shards are planned, so it is kept in arrays of fixed
width: some 50 bytes a sample, and 25 more where subsets are drawn by images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.pack.config import PackConfig
from pipelines.pack.plan import Int32, Int64
from pipelines.pack.rows import Loader, check_row, members_of, row_of, typed_table
from pipelines.pack.subsets import Int16, UInt64, images_of, rule_of
from pipelines.pack.tar import sample_bytes
from schemas.errors import RowRejected
from schemas.outcomes import rejections

STEP = "pack"
VERSION = 2
KEY_BYTES = 16
DIGEST_BYTES = 16
"""A digest tells whether an input is the one of before; half a SHA-256 does."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What a look at one partition found; the arrays are as long as there are rows that can be packed.

    Args:
        rows_in: rows in the partition.
        rows: their numbers, ascending.
        sizes: bytes of each as tar members, headers and padding included.
        keys: [N, KEY_BYTES] bytes.
        digests: [N, DIGEST_BYTES] bytes: over each one's members, names and order included.
        sources: the data set that each comes from, or null.
        rules: position of the subset whose rule takes it; -1 for none. Empty where there are no subsets.
        references, reference_counts, targets: what `groups_by_image` takes. Empty where no subset is drawn by images.
        rejected: outcomes of the other rows.
    """

    rows_in: int
    rows: Int32
    sizes: Int64
    keys: npt.NDArray[np.uint8]
    digests: npt.NDArray[np.uint8]
    sources: pa.DictionaryArray
    rules: Int16
    references: UInt64
    reference_counts: Int32
    targets: UInt64
    rejected: pa.Table


def survey(loader: Loader, config: PackConfig) -> Survey:
    """Look at one partition.

    Raises:
        SchemaError: the table is not the record that the config names.
    """
    table = typed_table(loader(), config.record_schema)
    rows: list[int] = []
    sizes: list[int] = []
    keys: list[bytes] = []
    digests: list[bytes] = []
    sources: list[str | None] = []
    rules: list[int] = []
    references: list[list[int]] = []
    targets: list[int] = []
    refused: list[tuple[str, str, str, str | None]] = []
    for number in range(table.num_rows):
        row = row_of(table, number)
        try:
            check_row(row, config)
            members = members_of(row, config)
        except RowRejected as rejection:
            refused.append((row["key"], rejection.reason, rejection.sentence, row.get("source")))
            continue
        digest = hashlib.sha256(row["key"].encode())
        for suffix, data in members:
            digest.update(f"{suffix} {len(data)} ".encode())
            digest.update(data)
        rows.append(number)
        sizes.append(sample_bytes(members))
        keys.append(bytes.fromhex(row["key"]))
        digests.append(digest.digest()[:DIGEST_BYTES])
        sources.append(row.get("source"))
        if config.subsets:
            rules.append(rule_of(row, config))
            if config.subset_by == "images":
                before, after = images_of(row)
                references.append(before)
                targets += [] if after is None else [after]
    bad_keys, reasons, sentences, bad_sources = zip(*refused, strict=True) if refused else ((), (), (), ())
    return Survey(
        table.num_rows,
        np.array(rows, np.int32),
        np.array(sizes, np.int64),
        _matrix(keys, KEY_BYTES),
        _matrix(digests, DIGEST_BYTES),
        pa.array(sources, pa.string()).dictionary_encode(),
        np.array(rules, np.int16),
        np.array([image for images in references for image in images], np.uint64),
        np.array([len(images) for images in references], np.int32),
        np.array(targets, np.uint64),
        rejections(STEP, VERSION, bad_keys, reasons, sentences, bad_sources),
    )


@dataclass(frozen=True, eq=False)
class Samples:
    """What is known of every sample that is packed, in input order; the arrays are N long.

    Args:
        rows_in: rows of the input.
        partitions: position of each one's partition.
        rows, sizes, digests: as in `Survey`.
        groups: the number that its subset is drawn by. Empty where there are no subsets.
        rules: as in `Survey`.
        rejected: outcomes of all rows that are not packed.
    """

    rows_in: int
    partitions: Int32
    rows: Int32
    sizes: Int64
    digests: npt.NDArray[np.uint8]
    groups: UInt64
    rules: Int16
    rejected: pa.Table

    def __len__(self) -> int:
        return len(self.rows)

    def input_digest(self) -> str:
        """Hexadecimal SHA-256 of everything that is packed, in order, and of what was rejected. Where the borders of
        the partitions are does not matter."""
        digest = hashlib.sha256(self.digests.tobytes())
        names = self.rejected.select(["key", "reason"]).to_pydict()
        digest.update("\n".join(sorted(map(" ".join, zip(*names.values(), strict=True)))).encode())
        return digest.hexdigest()


def gather(surveys: list[Survey], config: PackConfig, group: Callable[[UInt64, Int32, UInt64], UInt64]) -> Samples:
    """All samples of all partitions, without those whose key stands earlier in the input: these are rejected, reason
    `duplicate_key`. Empties `surveys`, so that no more than one copy is held.

    Args:
        group: `groups_by_image`, over all samples.
    """
    rows_in = sum(one.rows_in for one in surveys)
    rejected = [one.rejected for one in surveys]
    partitions = np.repeat(np.arange(len(surveys), dtype=np.int32), [len(one.rows) for one in surveys])
    keys = np.concatenate([one.keys for one in surveys])
    sources = pa.chunked_array([one.sources for one in surveys], pa.dictionary(pa.int32(), pa.string()))
    rows = np.concatenate([one.rows for one in surveys])
    sizes = np.concatenate([one.sizes for one in surveys])
    digests = np.concatenate([one.digests for one in surveys])
    rules = np.concatenate([one.rules for one in surveys])
    groups = np.empty(0, np.uint64)
    if config.subsets and config.subset_by == "key":
        groups = np.ascontiguousarray(keys[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    elif config.subsets:
        images = [np.concatenate([getattr(one, name) for one in surveys]) for name in _IMAGES]
        groups = group(images[0], images[1], images[2])
    surveys.clear()
    fresh = _first_of_each(keys)
    if not fresh.all():
        again = np.flatnonzero(~fresh)
        names = [keys[place].tobytes().hex() for place in again]
        count = len(names)
        sentence = "the same key stands earlier in the input; the first is kept"
        origins = sources.take(pa.array(again)).to_pylist()
        rejected.append(rejections(STEP, VERSION, names, ["duplicate_key"] * count, [sentence] * count, origins))
        partitions, rows, sizes, digests = (array[fresh] for array in (partitions, rows, sizes, digests))
        if config.subsets:
            groups, rules = groups[fresh], rules[fresh]
    return Samples(rows_in, partitions, rows, sizes, digests, groups, rules, pa.concat_tables(rejected))


_IMAGES = ("references", "reference_counts", "targets")


def _first_of_each(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Whether no earlier row of [N, KEY_BYTES] equals a row."""
    halves = keys.view(np.uint64)
    # The sort is stable, so of equal keys the first in the input comes first.
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    repeats = np.all(halves[order[1:]] == halves[order[:-1]], axis=1)
    fresh = np.ones(len(keys), np.bool_)
    fresh[order[1:][repeats]] = False
    return fresh


def _matrix(values: list[bytes], width: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, width)
