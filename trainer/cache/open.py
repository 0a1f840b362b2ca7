"""The caches beside a run's packed folders: which serve it, which do not and why, and where a sample stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.atomic import sha256_of
from schemas.keys import KEY_LENGTH
from schemas.manifest import read_manifest
from trainer.cache.card import CacheCard, read_card
from trainer.cache.identity import GEOMETRY_VERSION, why_not
from trainer.cache.layout import NAME_LENGTH, PARTS, SUFFIX, VLM
from trainer.cache.read import CachedPlace
from trainer.config import TrainConfig
from trainer.data.buckets import Bucket
from trainer.data.shards import ShardIndex

_COLUMNS = ("width", "height", "references", *(f"{part}_offset" for part in PARTS), *(f"{part}_tokens" for part in VLM))


@dataclass(frozen=True)
class RunNeeds:
    """What a run computes of its samples.

    Args:
        model: its folder.
        reference_latents: whether its denoiser sees the references' latents.
        text_encoders: whether it has any, whose features are never cached.
        prompt_version: of its prompt.
    """

    model: str
    reference_latents: bool
    text_encoders: bool
    prompt_version: int


@dataclass(frozen=True)
class _Opened:
    """One cache that serves."""

    folder: Path
    card: CacheCard
    features: bool
    columns: dict[str, npt.NDArray[Any]]


class TrainingCache:
    """What of a run's samples is cached.

    Args:
        caches: those that serve.
        cache_of: (N,) the cache that holds each sample of the run's index, -1 for none.
        row_of: (N,) its row there.
        lines: what a person should know.
    """

    def __init__(
        self,
        index: ShardIndex,
        caches: Sequence[_Opened],
        cache_of: npt.NDArray[np.int16],
        row_of: npt.NDArray[np.int64],
        lines: list[str],
        names: Sequence[str],
    ) -> None:
        self._index, self._caches, self._cache_of, self._row_of = index, caches, cache_of, row_of
        self._names = names
        self.lines = lines

    @property
    def samples(self) -> int:
        """How many of the run's samples have their latents here."""
        return int((self._cache_of >= 0).sum())

    def at(self, sample: int, bucket: Bucket) -> CachedPlace | None:
        """Where a sample of the run's index is cached at this size; None where it is not."""
        number = int(self._cache_of[sample])
        if number < 0:
            return None
        cache, row = self._caches[number], int(self._row_of[sample])
        found = {name: int(values[row]) for name, values in cache.columns.items()}
        if (found["width"], found["height"]) != (bucket.width, bucket.height) or cache.card.widths is None:
            return None
        kept = PARTS if cache.features else PARTS[:1]
        identity = cache.card.identity
        return CachedPlace(
            path=cache.folder / cache.card.shards[self._names[int(self._index.shard_of[sample])]].name,
            stored=identity.stored,
            widths=cache.card.widths,
            width=found["width"],
            height=found["height"],
            references=found["references"],
            reference_latents=identity.reference_latents,
            offsets={part: found[f"{part}_offset"] for part in kept if found[f"{part}_offset"] >= 0},
            tokens={part: found[f"{part}_tokens"] for part in VLM},
            mask_status=self._index.area(sample)[1],
        )


def open_cache(config: TrainConfig, index: ShardIndex, needs: RunNeeds) -> TrainingCache:
    """Look beside every packed folder of a run for caches that serve it.

    Args:
        index: the run's samples.

    Raises:
        InputError, ShardError: a packed folder or the model cannot be read.
    """
    lines: list[str] = []
    caches: list[_Opened] = []
    names = [""] * len(index.shards)
    cache_of = np.full(len(index), -1, dtype=np.int16)
    row_of = np.zeros(len(index), dtype=np.int64)
    for folder in dict.fromkeys(path for dataset in config.data.mixture for path in dataset.shards):
        found = Path(folder)
        digests = {found / entry.name: entry.sha256[:NAME_LENGTH] for entry in read_manifest(found).shards}
        mine = np.array([path in digests for path in index.shards])
        for number, path in enumerate(index.shards):
            names[number] = digests.get(path, names[number])
        chosen = _chosen(found, config, needs, lines)
        if chosen is None:
            continue
        opened, keys, shards = chosen
        samples = np.flatnonzero(mine[index.shard_of])
        rows = _rows_of(index, samples, names, keys, shards)
        known = rows >= 0
        cache_of[samples[known]], row_of[samples[known]] = len(caches), rows[known]
        caches.append(opened)
        what = "latents and features" if opened.features else "latents"
        lines.append(
            f"cache: {what} of {int(known.sum()):,} of {len(samples):,} samples of {found} are taken from "
            f"{opened.folder}, in {opened.card.identity.stored}"
        )
    return TrainingCache(index, caches, cache_of, row_of, lines, names)


def _chosen(
    packed: Path, config: TrainConfig, needs: RunNeeds, lines: list[str]
) -> tuple[_Opened, npt.NDArray[Any], npt.NDArray[Any]] | None:
    """The cache beside `packed` that serves best, with its keys and shards; what is against others goes to `lines`."""
    whole = packed.absolute()
    place = whole.with_name(whole.name + SUFFIX)
    serving: list[tuple[bool, bool, Path, CacheCard]] = []
    for folder in sorted(place.iterdir()) if place.is_dir() else []:
        card = read_card(folder)
        if card is None:
            continue
        reason = _against(folder, card, config, needs)
        if reason is not None:
            lines.append(f"cache: {folder} is not used: {reason}")
            continue
        against = _against_features(card, needs)
        if card.identity.features and against is not None:
            lines.append(f"cache: the features in {folder} are not used: {against}")
        features = card.identity.features and against is None
        serving.append((features, card.identity.stored == "float32", folder, card))
    if not serving:
        return None
    features, _, folder, card = max(serving, key=lambda one: one[:2])
    table = pq.read_table(folder / str(card.index.name if card.index else ""))
    columns = {name: table[name].to_numpy() for name in _COLUMNS}
    shards = table["shard"].combine_chunks().dictionary_encode()
    named = np.array(shards.dictionary.to_pylist(), dtype=f"S{NAME_LENGTH}")
    return _Opened(folder, card, features, columns), _bytes_of(table["key"]), named[shards.indices.to_numpy()]


def _against(folder: Path, card: CacheCard, config: TrainConfig, needs: RunNeeds) -> str | None:
    if card.status != "finished" or card.index is None:
        return "it was not finished; run the same `editmill cache` again"
    if not all(file.stands(folder) for file in (card.index, *card.shards.values())):
        return "a file of it is missing or has another size; run the same `editmill cache` again"
    if sha256_of(folder / card.index.name) != card.index.sha256:
        return "its index was altered; run the same `editmill cache` again"
    wanted: dict[str, Any] = {
        "geometry_version": GEOMETRY_VERSION,
        "resolution": config.data.resolution,
        "buckets": config.data.buckets,
        "compute": config.engine.dtype,
    }
    if needs.reference_latents:
        wanted["reference_latents"] = True
    return why_not(card.identity, needs.model, wanted, features=False)


def _against_features(card: CacheCard, needs: RunNeeds) -> str | None:
    if needs.text_encoders:
        return "the model has text encoders, whose features are not cached"
    return why_not(card.identity, needs.model, {"prompt_version": needs.prompt_version}, features=True)


def _rows_of(
    index: ShardIndex,
    samples: npt.NDArray[np.int64],
    names: Sequence[str],
    keys: npt.NDArray[Any],
    shards: npt.NDArray[Any],
) -> npt.NDArray[np.int64]:
    """The row of each sample in a cache, -1 where it has none, or was made of a shard that is another now."""
    if not len(keys):
        return np.full(len(samples), -1, dtype=np.int64)
    own = np.ascontiguousarray(index.keys[samples]).view(keys.dtype)[:, 0]
    order = np.argsort(keys, kind="stable")
    found = order[np.minimum(np.searchsorted(keys[order], own), len(keys) - 1)]
    shard = np.array(names, dtype=f"S{NAME_LENGTH}")[index.shard_of[samples]]
    return np.where((keys[found] == own) & (shards[found] == shard), found, -1)


def _bytes_of(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Keys as 16 bytes each."""
    whole = b"".join(bytes.fromhex(text) for text in column.to_pylist())
    return np.frombuffer(whole, dtype=np.dtype((np.void, KEY_LENGTH // 2)))
