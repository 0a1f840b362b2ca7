"""Samples in packed folders, read at random through the index: no shard is unpacked, no order is imposed."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import InputError, RowRejected, ShardError
from schemas.layout import INDEX, INDEX_NAME, reference_member
from schemas.manifest import read_manifest


@dataclass(frozen=True)
class EncodedSample:
    """The members of one sample as they stand in the shard.

    Args:
        references: encoded images, at least one.
        target, mask: encoded images.
        instruction: the edit in words.
        mask_status: see `schemas.masks.MaskStatus`.
    """

    references: list[bytes]
    target: bytes
    mask: bytes
    instruction: str
    mask_status: str


@dataclass(frozen=True)
class ShardIndex:
    """The samples of one or more packed folders that a run may take.

    Args:
        folders: the packed folders.
        table: columns folder (position in `folders`), key, shard, offset, size, edited_fraction and mask_status, in the
            order of folders and index.
        left_out: mask status, or `subset NAME` -> samples left out for it.
    """

    folders: tuple[Path, ...]
    table: pa.Table
    left_out: dict[str, int]

    def __len__(self) -> int:
        return self.table.num_rows

    def key(self, sample: int) -> str:
        """The key of a sample (0 <= sample < len)."""
        return str(self.table["key"][sample].as_py())

    def count_of(self, keys: Collection[str]) -> int:
        """How many of the samples have one of these keys."""
        return int(pc.sum(pc.is_in(self.table["key"], value_set=pa.array(sorted(keys), pa.string()))).as_py() or 0)

    def shard(self, sample: int) -> Path:
        """The shard that holds a sample."""
        folder = self.folders[self.table["folder"][sample].as_py()]
        return folder / str(self.table["shard"][sample].as_py())

    def span(self, sample: int) -> tuple[int, int]:
        """Offset and size in bytes of a sample in its shard."""
        return int(self.table["offset"][sample].as_py()), int(self.table["size"][sample].as_py())

    def area(self, sample: int) -> tuple[float, str]:
        """Edited fraction (0..1) and status of a sample's stored mask, as the index states them."""
        return float(self.table["edited_fraction"][sample].as_py()), str(self.table["mask_status"][sample].as_py())


def open_shards(folders: Sequence[Path], statuses: Collection[str], subsets: Collection[str]) -> ShardIndex:
    """Read the indexes and look, before anything else starts, that the shards they name are there and whole.

    Args:
        statuses: mask statuses to take.
        subsets: subsets to take, of folders that were packed in subsets.

    Raises:
        InputError: no packed folder, or one without edit samples or WebDataset shards, or with none of the subsets.
        ShardError: a shard or the index is missing, or has not the size that the manifest states.
    """
    tables = []
    left_out: Counter[str] = Counter()
    for position, folder in enumerate(folders):
        table, others = _of_subsets(_read_index(folder), subsets)
        if others and not table.num_rows:
            mend = f"Name one of them: subsets: [{min(others)}]."
            raise InputError("subsets", sorted(subsets), f"are none of {folder}, which has {sorted(others)}", mend)
        left_out.update({f"subset {name}": samples for name, samples in others.items()})
        status = pc.fill_null(table["mask_status"], "none")
        taken = pc.is_in(status, value_set=pa.array(sorted(statuses), pa.string()))
        left_out.update(status.filter(pc.invert(taken)).to_pylist())
        table = table.filter(taken).select(["key", "shard", "offset", "size", "edited_fraction", "mask_status"])
        tables.append(table.append_column("folder", pa.array(np.full(table.num_rows, position, dtype=np.int32))))
    return ShardIndex(tuple(folders), pa.concat_tables(tables).combine_chunks(), dict(left_out))


def _of_subsets(table: pa.Table, subsets: Collection[str]) -> tuple[pa.Table, Counter[str]]:
    """The samples of the subsets to take, and how many each other one has; those in no subset are taken."""
    if "subset" not in table.column_names:
        return table, Counter()
    names = table["subset"]
    taken = pc.or_(pc.is_null(names), pc.is_in(names, value_set=pa.array(sorted(subsets), pa.string())))
    return table.filter(taken), Counter(names.filter(pc.invert(taken)).to_pylist())


def read_sample(path: Path, offset: int, size: int) -> EncodedSample:
    """One sample out of a shard.

    Raises:
        RowRejected: `shard_unreadable`, `sample_truncated` or `member_missing`.
    """
    try:
        with path.open("rb") as stream:
            data = os.pread(stream.fileno(), size, offset)
        if len(data) != size:
            raise RowRejected("sample_truncated", f"{path.name} ends {size - len(data)} bytes before the sample does")
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = {}
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    members[member.name.partition(".")[2]] = content.read()
    except (OSError, tarfile.TarError) as error:
        raise RowRejected("shard_unreadable", f"{path.name} at byte {offset}: {error}") from error
    return _parse(members, path)


def _parse(members: dict[str, bytes], path: Path) -> EncodedSample:
    images = {name.partition(".")[0]: data for name, data in members.items() if name != "json"}
    references: list[bytes] = []
    while (name := reference_member(len(references))) in images:
        references.append(images[name])
    for name, present in (("reference", references), ("target", "target" in images), ("mask", "mask" in images)):
        if not present:
            raise RowRejected("member_missing", f"{path.name} holds no {name} for the sample")
    try:
        values = json.loads(members["json"])
        instruction, status = values["instruction"], values["mask_status"]
    except (KeyError, TypeError, ValueError) as error:
        raise RowRejected("member_missing", f"{path.name}: no usable JSON member ({error!r})") from error
    if not isinstance(instruction, str) or not isinstance(status, str):
        raise RowRejected("member_missing", f"{path.name}: instruction and mask_status must be text")
    return EncodedSample(references, images["target"], images["mask"], instruction, status)


def _read_index(folder: Path) -> pa.Table:
    manifest = read_manifest(folder)
    if manifest.record != "EditSample":
        raise InputError("shards", str(folder), f"hold {manifest.record}s", "Training needs edit samples with masks.")
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
    try:
        table = pq.read_table(folder / INDEX_NAME)
    except (OSError, pa.ArrowInvalid) as error:
        raise ShardError("index", str(folder / INDEX_NAME), f"cannot be read ({error})", "Pack again.") from error
    INDEX.check(table)
    return table
