"""`cache.json`: what a cache is, and the commits of its shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from schemas.atomic import write_json
from schemas.config import Config
from trainer.cache.identity import FORMAT_VERSION, CacheIdentity
from trainer.cache.layout import CARD_NAME


class Widths(Config):
    """The sizes of what is stored, which do not change from sample to sample; 0 where it is not stored."""

    channels: int
    """C of a latent."""
    siglip_tokens: int = 0
    """T of an image."""
    siglip_width: int = 0
    vlm_width: int = 0


class StoredFile(Config):
    """A file, as it was when it was committed."""

    name: str
    """Path relative to the cache's folder."""
    bytes: int
    sha256: str

    def stands(self, folder: Path) -> bool:
        """Whether it is there in its size."""
        path = folder / self.name
        return path.is_file() and path.stat().st_size == self.bytes


class ShardCommit(Config):
    """One shard is in the cache."""

    shard: str
    """Beginning of the shard's SHA-256."""
    samples: int
    """Of the shard."""
    stored: int
    """Of them in the cache."""
    rejected: dict[str, int]
    """Reason -> samples that are not: a run meets them as it would without a cache. samples = stored + these."""
    values: StoredFile
    """The numbers."""
    rows: StoredFile
    """Their rows of the index."""
    widths: Widths


class CacheCard(Config):
    """What a cache is."""

    status: Literal["running", "finished"]
    """A run of the trainer takes finished ones only."""
    identity: CacheIdentity
    """What decides its numbers."""
    packed: str
    """The packed folder, for people."""
    samples: int = 0
    """Of the packed folder."""
    stored: int = 0
    """Of them in the cache."""
    rejected: dict[str, int] = Field(default_factory=dict)
    """Reason -> samples that are not."""
    shards: dict[str, StoredFile] = Field(default_factory=dict)
    """Shard, by the beginning of its SHA-256 -> its file of numbers."""
    index: StoredFile | None = None
    """Where finished."""
    widths: Widths | None = None
    """Where finished."""


def write_card(folder: Path, card: CacheCard) -> None:
    """Write `cache.json`, whole or not at all."""
    write_json(folder / CARD_NAME, card.as_json())


def read_card(folder: Path) -> CacheCard | None:
    """The card of a cache of this format; None where there is none."""
    try:
        values = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
        if values["identity"]["format_version"] != FORMAT_VERSION:
            return None
        return CacheCard.model_validate(values)
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None


def read_commit(path: Path, folder: Path) -> ShardCommit | None:
    """The commit at `path`, or None where the shard must be done (again): there is no such, or a file is not there."""
    try:
        commit = ShardCommit.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return commit if commit.values.stands(folder) and commit.rows.stands(folder) else None
