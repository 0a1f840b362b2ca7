"""The first look at a partition: which rows can be packed, how large each is, and a digest of its content.

Everything that may reject a row happens here, before a shard is written, and only image headers are looked at. The
digests make the folder's fingerprint: a restart reads the input once more, and in exchange a changed input is never
mixed with shards of the old one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.pack.config import PackConfig
from pipelines.pack.rows import Loader, check_row, members_of, row_of, typed_table
from pipelines.pack.tar import sample_bytes
from schemas.errors import RowRejected
from schemas.outcomes import rejections

STEP = "pack"
VERSION = 1


@dataclass(frozen=True)
class Survey:
    """What a look at one partition found.

    Args:
        rows_in: rows in the partition.
        rows: numbers of the rows that can be packed, ascending.
        keys: their keys.
        sources: the data set that each comes from, or None.
        sizes: bytes of each as tar members, headers and padding included.
        digests: SHA-256 over each one's members, names and order included.
        rejected: outcomes of the other rows.
    """

    rows_in: int
    rows: list[int]
    keys: list[str]
    sources: list[str | None]
    sizes: list[int]
    digests: list[bytes]
    rejected: pa.Table


def survey(loader: Loader, config: PackConfig) -> Survey:
    """Look at one partition.

    Raises:
        SchemaError: the table is not the record that the config names.
    """
    table = typed_table(loader(), config.record_schema)
    found = Survey(table.num_rows, [], [], [], [], [], rejections(STEP, VERSION, [], [], []))
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
        found.rows.append(number)
        found.keys.append(row["key"])
        found.sources.append(row.get("source"))
        found.sizes.append(sample_bytes(members))
        found.digests.append(digest.digest())
    keys, reasons, sentences, sources = zip(*refused, strict=True) if refused else ((), (), (), ())
    return Survey(
        found.rows_in,
        found.rows,
        found.keys,
        found.sources,
        found.sizes,
        found.digests,
        rejections(STEP, VERSION, keys, reasons, sentences, sources),
    )


def first_of_each_key(surveys: list[Survey]) -> tuple[list[Survey], pa.Table]:
    """Drop rows whose key stands earlier in the input.

    Returns:
        The surveys without them (in the same order), and one rejected outcome for each, reason `duplicate_key`.
    """
    seen: set[str] = set()
    left: list[Survey] = []
    repeated: list[str] = []
    sources: list[str | None] = []
    for one in surveys:
        fresh = []
        for position, key in enumerate(one.keys):
            if key in seen:
                repeated.append(key)
                sources.append(one.sources[position])
            else:
                seen.add(key)
                fresh.append(position)
        left.append(
            Survey(
                one.rows_in,
                [one.rows[position] for position in fresh],
                [one.keys[position] for position in fresh],
                [one.sources[position] for position in fresh],
                [one.sizes[position] for position in fresh],
                [one.digests[position] for position in fresh],
                one.rejected,
            )
        )
    count = len(repeated)
    sentence = "the same key stands earlier in the input; the first is kept"
    return left, rejections(STEP, VERSION, repeated, ["duplicate_key"] * count, [sentence] * count, sources)


def input_digest(surveys: list[Survey], rejected: pa.Table) -> str:
    """Hexadecimal SHA-256 of everything that is packed, in order, and of what was rejected. Where the borders of the
    partitions are does not matter."""
    digest = hashlib.sha256()
    for one in surveys:
        for sample in one.digests:
            digest.update(sample)
    pairs = pc.binary_join_element_wise(rejected["key"], rejected["reason"], " ").to_pylist()
    digest.update("\n".join(sorted(pairs)).encode())
    return digest.hexdigest()
