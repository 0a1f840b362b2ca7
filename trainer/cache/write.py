"""One shard into a cache: decoded as a run would, put through the frozen parts, written whole or not at all."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from schemas.atomic import sha256_of, write_json, write_whole
from schemas.errors import InputError, RowRejected
from trainer.cache.card import ShardCommit, StoredFile
from trainer.cache.frozen import FrozenParts, Prompt
from trainer.cache.identity import DTYPES, CacheIdentity
from trainer.cache.layout import INDEX, LATENTS, NAME_LENGTH, PARTS, SHARD_FOLDER, SIGLIP, VLM
from trainer.data.buckets import Bucket
from trainer.data.decode import Sample, decode
from trainer.data.members import read_sample
from unified_model.features import EditFeatures

ROWS_AT_ONCE = 32
"""Samples that are decoded and held together."""


@dataclass(frozen=True)
class Entry:
    """A sample of a shard: where it lies, and the size that it is brought to."""

    key: str
    offset: int
    size: int
    bucket: Bucket


@dataclass(frozen=True)
class ShardWork:
    """A shard to be put into a cache; light to pickle.

    Args:
        sha256: of the shard.
        entries: its samples, in the index's order.
    """

    path: Path
    sha256: str
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """Of its files."""
        return self.sha256[:NAME_LENGTH]


def commit_path(folder: Path, name: str) -> Path:
    """Where the commit of the shard `name` stands in the cache `folder`."""
    return folder / SHARD_FOLDER / f"{name}.json"


def cache_shard(work: ShardWork, parts: FrozenParts, identity: CacheIdentity, folder: Path) -> ShardCommit:
    """Put a shard into the cache `folder`: numbers and rows first, the commit that vouches for them last.

    Raises:
        OutputError: it cannot be written.
        InputError: the shard cannot be read.
    """
    rejected: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    values = folder / SHARD_FOLDER / f"{work.name}.bin"
    with write_whole(values) as stream:
        out = _Writer(stream, DTYPES[identity.stored])
        for start in range(0, len(work.entries), ROWS_AT_ONCE):
            taken: list[tuple[Entry, Sample]] = []
            for entry in work.entries[start : start + ROWS_AT_ONCE]:
                try:
                    taken.append((entry, _sample(work.path, entry, parts)))
                except RowRejected as rejection:
                    rejected[rejection.reason] += 1
            rows += _store(taken, parts, identity, work.name, out)
    index = folder / SHARD_FOLDER / f"{work.name}.parquet"
    with write_whole(index) as stream:
        pq.write_table(pa.Table.from_pylist(rows, schema=INDEX), stream, compression="zstd")
    commit = ShardCommit(
        shard=work.name,
        samples=len(work.entries),
        stored=len(rows),
        rejected=dict(sorted(rejected.items())),
        values=StoredFile(name=f"{SHARD_FOLDER}/{values.name}", bytes=out.at, sha256=out.digest.hexdigest()),
        rows=StoredFile(name=f"{SHARD_FOLDER}/{index.name}", bytes=index.stat().st_size, sha256=sha256_of(index)),
        widths=parts.widths,
    )
    write_json(commit_path(folder, work.name), commit.as_json())
    return commit


def _sample(path: Path, entry: Entry, parts: FrozenParts) -> Sample:
    """As `trainer.data.batch` takes it, with nothing dropped."""
    encoded = read_sample(path, entry.offset, entry.size)
    try:
        parts.processor.prompt(encoded.instruction, len(encoded.references))
    except InputError as error:
        raise RowRejected("instruction_unusable", f"{error.field}: {error.rule}") from error
    return decode(encoded, entry.bucket)


def _store(
    taken: Sequence[tuple[Entry, Sample]], parts: FrozenParts, identity: CacheIdentity, shard: str, out: _Writer
) -> list[dict[str, Any]]:
    """Write the parts of some samples; returns their rows of the index, in order."""
    pictures = [_pictures(sample, identity) for _, sample in taken]
    latents = _latents([(entry.bucket, own) for (entry, _), own in zip(taken, pictures, strict=True)], parts)
    features = _features([sample for _, sample in taken], parts, identity) if identity.features else {}
    rows = []
    for number, (entry, sample) in enumerate(taken):
        row: dict[str, Any] = {
            "key": entry.key,
            "shard": shard,
            "width": entry.bucket.width,
            "height": entry.bucket.height,
            "references": len(sample.references),
            **{f"{part}_offset": -1 for part in PARTS},
            **{f"{part}_tokens": 0 for part in VLM},
        }
        row[f"{LATENTS}_offset"] = out.at
        out.bytes(sample.cells.astype(np.uint8).tobytes())
        for picture in latents[number]:
            out.values(picture)
        for part, found in features.items():
            own = found[number]
            if own is None:
                continue
            if part == "vlm_whole":
                row[f"{SIGLIP}_offset"] = out.at
                out.values(own.siglip_tokens)
            row[f"{part}_offset"], row[f"{part}_tokens"] = out.at, own.vlm_states.shape[1]
            out.bytes(own.image_positions.numpy().astype("<i8").tobytes())
            out.values(own.vlm_states)
        rows.append(row)
    return rows


def _pictures(sample: Sample, identity: CacheIdentity) -> list[torch.Tensor]:
    wanted = [sample.target, *(sample.references if identity.reference_latents else [])]
    return [torch.from_numpy(image) for image in wanted]


def _latents(pictures: Sequence[tuple[Bucket, Sequence[torch.Tensor]]], parts: FrozenParts) -> list[list[torch.Tensor]]:
    """The latents of every sample's pictures; those of one size go through the VAE together."""
    together: dict[Bucket, list[tuple[int, torch.Tensor]]] = defaultdict(list)
    for number, (bucket, own) in enumerate(pictures):
        together[bucket] += [(number, picture) for picture in own]
    result: list[list[torch.Tensor]] = [[] for _ in pictures]
    for group in together.values():
        for (number, _), latents in zip(group, parts.latents([picture for _, picture in group]), strict=True):
            result[number].append(latents)
    return result


def _features(
    samples: Sequence[Sample], parts: FrozenParts, identity: CacheIdentity
) -> dict[str, list[EditFeatures | None]]:
    """VLM part -> the features of each sample; None where it would say what another part says."""
    result: dict[str, list[EditFeatures | None]] = {}
    for part, dropped in VLM.items():
        if part != "vlm_whole" and not identity.dropped:
            continue
        wanted = [number for number, sample in enumerate(samples) if sample.references or not dropped.image]
        prompts = [
            Prompt(
                None if dropped.text else samples[number].instruction,
                [] if dropped.image else samples[number].references,
            )
            for number in wanted
        ]
        found = dict(zip(wanted, parts.features(prompts), strict=True))
        result[part] = [found.get(number) for number in range(len(samples))]
    return result


@dataclass
class _Writer:
    """Appends numbers to a file, and hashes them."""

    stream: Any
    dtype: torch.dtype
    at: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def values(self, tensor: torch.Tensor) -> None:
        """A tensor in the cache's type."""
        self.bytes(tensor.to(self.dtype).contiguous().view(torch.uint8).numpy().tobytes())

    def bytes(self, data: bytes) -> None:
        """As they are."""
        self.stream.write(data)
        self.digest.update(data)
        self.at += len(data)
