"""The first look at a partition: which rows can be packed, how large each is, and a digest of its content.

Everything that may reject a row happens here, before a shard is written, and only image headers are looked at. The
digests make the folder's fingerprint: a restart reads the input once more, and in exchange a changed input is never
mixed with shards of the old one.

What is known of a sample is held for all of them together while shards are planned, so it is one record of fixed width
in an array: 54 bytes, and 8 more for each of its images where subsets are drawn by images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.pack.config import PackConfig
from pipelines.pack.plan import Int32
from pipelines.pack.rows import Loader, check_row, members_of, row_of, typed_table
from pipelines.pack.subsets import UInt64, groups_by_image, images_of, rule_of
from pipelines.pack.tar import sample_bytes
from schemas.errors import RowRejected
from schemas.outcomes import no_rejections, rejections

STEP = "pack"
VERSION = 2
SAMPLE = np.dtype(
    [
        ("row", np.int32),
        ("size", np.int64),
        ("key", np.uint64, 2),
        ("digest", np.uint64, 2),
        ("source", np.int32),
        ("rule", np.int16),
        ("references", np.int32),
    ]
)
"""One sample: its row in its partition; its bytes as tar members, headers and padding included; its key's 16 bytes;
half a SHA-256 over its members, names and order included; position of its data set among the names; position of the
subset whose rule takes it, -1 for none; how many references it has, where subsets are drawn by images."""

_TOGETHER = 512
"""Partitions whose surveys are joined at once, so that what an array costs by itself is not paid for each."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What a look at one partition found.

    Args:
        rows_in: rows in the partition.
        samples: of type `SAMPLE`, the rows that can be packed, in order.
        images: numbers of their references and target, one sample's after the other's; empty where no subset is drawn
            by images.
        sources: names of the data sets that they come from.
        rejected: outcomes of the other rows; None where there are none.
    """

    rows_in: int
    samples: npt.NDArray[np.void]
    images: UInt64
    sources: tuple[str | None, ...]
    rejected: pa.Table | None


def survey(loader: Loader, config: PackConfig) -> Survey:
    """Look at one partition.

    Raises:
        SchemaError: the table is not the record that the config names.
    """
    table = typed_table(loader(), config.record_schema)
    by_images = bool(config.subsets) and config.subset_by == "images"
    found: list[tuple[Any, ...]] = []
    images: list[int] = []
    sources: dict[str | None, int] = {}
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
        source = sources.setdefault(row.get("source"), len(sources))
        before, after = images_of(row) if by_images else ([], [])
        images += [*before, *after]
        key = _two_numbers(bytes.fromhex(row["key"]))
        found.append(
            (
                number,
                sample_bytes(members),
                key,
                _two_numbers(digest.digest()),
                source,
                rule_of(row, config),
                len(before),
            )
        )
    rejected = None
    if refused:
        keys, reasons, sentences, origins = zip(*refused, strict=True)
        rejected = rejections(STEP, VERSION, keys, reasons, sentences, origins)
    samples = np.array(found, SAMPLE)
    return Survey(table.num_rows, samples, np.array(images, np.uint64), tuple(sources), rejected)


@dataclass(frozen=True, eq=False)
class Samples:
    """What is known of every sample that is packed, in input order.

    Args:
        rows_in: rows of the input.
        partitions: position of each one's partition, N long.
        samples: N long, of type `SAMPLE`; `source` means nothing any more.
        groups: the number that each one's subset is drawn by, N long; empty where there are no subsets.
        rejected: outcomes of all rows that are not packed.
    """

    rows_in: int
    partitions: Int32
    samples: npt.NDArray[np.void]
    groups: UInt64
    rejected: pa.Table

    def __len__(self) -> int:
        return len(self.samples)

    def input_digest(self) -> str:
        """Hexadecimal SHA-256 of everything that is packed, in order, and of what was rejected. Where the borders of
        the partitions are does not matter."""
        digest = hashlib.sha256(np.ascontiguousarray(self.samples["digest"]).astype(">u8").tobytes())
        names = self.rejected.select(["key", "reason"]).to_pydict()
        digest.update("\n".join(sorted(map(" ".join, zip(*names.values(), strict=True)))).encode())
        return digest.hexdigest()


def gather(surveys: Iterable[Survey], config: PackConfig) -> Samples:
    """All samples of all partitions, without those whose key stands earlier in the input: these are rejected, reason
    `duplicate_key`. Surveys are asked for one by one, and none is kept."""
    names: dict[str | None, int] = {}
    joined = list(_joined(surveys, names))
    rejected = [table for *_, table in joined]
    rows_in = sum(int(rows.sum()) for rows, *_ in joined)
    counts = np.concatenate([np.zeros(0, np.int64), *(counts for _, counts, *_ in joined)])
    partitions = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    samples = np.concatenate([np.empty(0, SAMPLE), *(samples for _, _, samples, _, _ in joined)])
    images = np.concatenate([np.empty(0, np.uint64), *(images for *_, images, _ in joined)])
    del joined
    groups = np.empty(0, np.uint64)
    if config.subsets and config.subset_by == "key":
        groups = samples["key"][:, 0].copy()
    elif config.subsets:
        groups = groups_by_image(images, samples["references"], targets=config.record == "edits")
    fresh = _first_of_each(samples["key"])
    if not fresh.all():
        again = samples[~fresh]
        keys = [f"{high:016x}{low:016x}" for high, low in again["key"].tolist()]
        origins = [list(names)[place] for place in again["source"].tolist()]
        sentence = "the same key stands earlier in the input; the first is kept"
        reasons, sentences = ["duplicate_key"] * len(keys), [sentence] * len(keys)
        rejected.append(rejections(STEP, VERSION, keys, reasons, sentences, origins))
        partitions, samples = partitions[fresh], samples[fresh]
        groups = groups[fresh] if config.subsets else groups
    return Samples(rows_in, partitions, samples, groups, pa.concat_tables([no_rejections(), *rejected]))


_Joined = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.void], UInt64, pa.Table]


def _joined(surveys: Iterable[Survey], names: dict[str | None, int]) -> Iterator[_Joined]:
    """Of each run of surveys: rows in and samples of each, and all samples, images and outcomes; `names` grows, and
    samples name their source by its position there."""
    left = iter(surveys)
    while some := list(islice(left, _TOGETHER)):
        samples = np.concatenate([one.samples for one in some])
        samples["source"] = np.concatenate([_renamed(one, names) for one in some])
        yield (
            np.array([one.rows_in for one in some], np.int64),
            np.array([len(one.samples) for one in some], np.int64),
            samples,
            np.concatenate([one.images for one in some]),
            pa.concat_tables([no_rejections(), *(one.rejected for one in some if one.rejected is not None)]),
        )


def _renamed(one: Survey, names: dict[str | None, int]) -> Int32:
    places = np.array([names.setdefault(name, len(names)) for name in one.sources], np.int32)
    renamed: Int32 = places[one.samples["source"]]
    return renamed


def _first_of_each(keys: UInt64) -> npt.NDArray[np.bool_]:
    """Whether no earlier row of [N, 2] equals a row."""
    # The sort is stable, so of equal keys the first in the input comes first.
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    fresh = np.ones(len(keys), np.bool_)
    for start in range(1, len(keys), _BLOCK):
        places = order[start - 1 : start + _BLOCK]
        sorted_keys = keys[places]
        fresh[places[1:][np.all(sorted_keys[1:] == sorted_keys[:-1], axis=1)]] = False
    return fresh


_BLOCK = 1 << 20


def _two_numbers(data: bytes) -> tuple[int, int]:
    """The first 16 bytes as two big-endian numbers."""
    return int.from_bytes(data[:8]), int.from_bytes(data[8:16])
