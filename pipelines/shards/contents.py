"""The samples in a shard, held against the index and against themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipelines.shards.faults import Fault, FaultKind
from pipelines.shards.members import IMAGE_COLUMNS
from pipelines.shards.read import parquet_groups, row_of
from pipelines.shards.tar_samples import TarSample, tar_samples
from schemas.errors import RowRejected, SchemaError, SchemaVersionError, ShardError
from schemas.images import HARD_MAX_PIXELS, image_size
from schemas.manifest import FileEntry
from schemas.record import RecordSchema
from schemas.records import EDIT_SAMPLE

IndexRows = Sequence[Mapping[str, Any]] | None
"""The index's rows for one shard, in index order; None where the index cannot be read."""


def tar_faults(folder: Path, entry: FileEntry, record: RecordSchema, rows: IndexRows) -> Iterator[Fault]:
    """What is wrong inside one tar."""
    at = [(row["key"], row["offset"], row["size"]) for row in rows or ()]
    found: list[tuple[str, int, int]] = []
    try:
        for sample in tar_samples(folder / entry.name):
            found.append((sample.key, sample.offset, sample.size))
            yield from _sample_faults(sample, entry.name, record)
    except ShardError as error:
        yield Fault(entry.name, FaultKind.DAMAGED, f"{error.rule} {error.value}, after {len(found)} whole samples")
        at = at[: len(found)]
    if rows is not None:
        yield from _disagreement(entry.name, found, at)


def parquet_faults(folder: Path, entry: FileEntry, record: RecordSchema, rows: IndexRows) -> Iterator[Fault]:
    """What is wrong inside one Parquet shard."""
    at = [(row["key"], row["parquet_row"]) for row in rows or ()]
    found: list[tuple[str, int]] = []
    try:
        for group in parquet_groups(folder / entry.name, record):
            for number in range(group.num_rows):
                row = group.slice(number, 1).to_pylist()[0]
                found.append((row["key"], len(found)))
                yield from _row_faults(row, entry.name, record)
    except SchemaVersionError as error:
        yield Fault(entry.name, FaultKind.SCHEMA_VERSION, str(error))
        return
    except (ShardError, SchemaError) as error:
        yield Fault(entry.name, FaultKind.DAMAGED, f"{error.rule} ({error.value}), after {len(found)} whole rows")
        at = at[: len(found)]
    if rows is not None:
        yield from _disagreement(entry.name, found, at)


def _disagreement(name: str, found: Sequence[tuple[Any, ...]], at: Sequence[tuple[Any, ...]]) -> Iterator[Fault]:
    different = [pair for pair in zip_longest(found, at) if pair[0] != pair[1]]
    if different:
        first_found, first_at = different[0]
        sentence = f"{len(different)} samples are not where the index says; the first: {first_found}, index {first_at}"
        yield Fault(name, FaultKind.INDEX, sentence)


def _sample_faults(sample: TarSample, name: str, record: RecordSchema) -> Iterator[Fault]:
    try:
        row = row_of(sample, name)
    except SchemaVersionError as error:
        yield Fault(name, FaultKind.SCHEMA_VERSION, f"sample {sample.key}: {error}")
    except ShardError as error:
        yield Fault(name, FaultKind.SAMPLE, f"{error.value} {error.rule}")
    else:
        yield from _row_faults(row, name, record)


def _row_faults(row: Mapping[str, Any], name: str, record: RecordSchema) -> Iterator[Fault]:
    missing = [column for column in record.required if row.get(column) is None]
    if missing:
        yield Fault(name, FaultKind.SAMPLE, f"sample {row['key']}: no {', '.join(missing)}")
        return
    images: list[tuple[str, Mapping[str, Any]]] = []
    for column in IMAGE_COLUMNS[record.name]:
        value = row[column]
        images += [(column, image) for image in value] if isinstance(value, list) else [(column, value)]
    for column, image in images:
        try:
            size = image_size(image["bytes"] if image else None, max_pixels=HARD_MAX_PIXELS)
        except RowRejected as rejection:
            yield Fault(name, FaultKind.SAMPLE, f"sample {row['key']}, {column}: {rejection.sentence}")
            continue
        if record is EDIT_SAMPLE and column in ("target", "mask") and size != (row["width"], row["height"]):
            says = f"{row['width']} x {row['height']}"
            sentence = f"sample {row['key']}: {column} has {size[0]} x {size[1]} pixels, the sample says {says}"
            yield Fault(name, FaultKind.SAMPLE, sentence)
