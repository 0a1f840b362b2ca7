"""What a cache is made of: the identity that its model and geometry give, and a piece of work for each shard."""

from __future__ import annotations

from pathlib import Path

from jobs.caching.config import CacheConfig
from schemas.errors import ConfigError
from schemas.manifest import read_manifest
from trainer.cache.identity import CacheIdentity, marks_for
from trainer.cache.write import Entry, ShardWork
from trainer.data.buckets import bucket_table, nearest_bucket
from trainer.data.shards import STATUSES, open_shards
from unified_model.card import read_card
from unified_model.checkpoint import checkpoint_folder, whole_model_of


def identity_of(config: CacheConfig) -> CacheIdentity:
    """What decides the numbers of a cache; reads the model's files for their hashes.

    Raises:
        InputError: the model's folder or its base is missing.
        ConfigError: features of a model with text encoders.
    """
    folder = checkpoint_folder(config.model)
    card = read_card(whole_model_of(folder))
    if config.features and {"clip", "t5"} & set(card.parts):
        raise ConfigError(
            "features", True, "the model has text encoders, whose features are not cached", "Store latents alone."
        )
    return CacheIdentity(
        resolution=config.resolution,
        buckets=config.buckets,
        compute=config.compute,
        stored=config.stored,
        features=config.features,
        dropped=config.dropped,
        reference_latents=read_card(folder).takes_reference_latents,
        prompt_version=card.prompt_version,
        model=marks_for(config.model, config.features),
    )


def shard_works(config: CacheConfig) -> list[ShardWork]:
    """A piece of work for each shard, in order, each sample at the size that a run brings it to.

    Raises:
        InputError, ShardError, SchemaError: as `trainer.data.shards.open_shards`.
    """
    packed = config.packed.absolute()
    manifest = read_manifest(packed)
    index = open_shards([packed], STATUSES, manifest.subsets or ())
    table = bucket_table(config.resolution, config.buckets)
    nearest = nearest_bucket(table, index.widths, index.heights)
    digests: dict[Path, str] = {packed / entry.name: entry.sha256 for entry in manifest.shards}
    entries: dict[int, list[Entry]] = {number: [] for number in range(len(index.shards))}
    for sample in range(len(index)):
        entry = Entry(index.key(sample), *index.span(sample), table[int(nearest[sample])])
        entries[int(index.shard_of[sample])].append(entry)
    return [ShardWork(path, digests[path], tuple(entries[number])) for number, path in enumerate(index.shards)]
