"""The shard manifest: what a packed folder holds, with the hash of every file. Readers trust it, never a glob."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from schemas.atomic import canonical_json, write_json
from schemas.config import Config
from schemas.errors import InputError, SchemaVersionError, ShardError
from schemas.layout import MANIFEST_NAME

MANIFEST_VERSION = 2
"""Version 1 had no history, contents and subsets."""


class FileEntry(Config):
    """One file of a packed folder."""

    name: str
    """Path relative to the packed folder, with forward slashes."""
    format: Literal["webdataset", "parquet", "index"]
    samples: int
    bytes: int
    sha256: str


class StepHistory(Config):
    """What a source or step made of its rows, on their way to the packed folder."""

    name: str
    version: int
    rows_in: int
    kept: int
    rejected: dict[str, int]
    """Reason -> rows. rows_in = kept + the sum of these."""
    config: dict[str, Any]
    """What decided it, without where data, models and files lie."""


class ShardManifest(Config):
    """Everything that tells one packed folder from another; the same input and config give the same bytes."""

    manifest_version: int = MANIFEST_VERSION
    record: Literal["EditSample", "ImageRecord"]
    record_version: int
    config: dict[str, Any]
    """The resolved pack config."""
    fingerprint: str = ""
    """Hash of the config and of every sample's content, in order: a folder with the same one needs no packing again."""
    rows_in: int
    kept: int
    rejected: dict[str, int]
    """Reason -> rows. rows_in = kept + the sum of these."""
    history: tuple[StepHistory, ...] | None = None
    """The source and the steps before packing, in order; None where nobody told."""
    contents: dict[str, list[dict[str, Any]]] | None = None
    """Topic -> what there is of it, each with its number of `samples`, the most first; the packer names the topics."""
    subsets: dict[str, int] | None = None
    """Subset -> samples; None where the samples are all together."""
    shards: list[FileEntry]
    index: FileEntry
    checksum: str = ""
    """`manifest_checksum` of the other values; set by `sealed`. Validation holds it against them, readers do not."""

    def sealed(self) -> ShardManifest:
        """This manifest with its checksum."""
        return self.model_copy(update={"checksum": manifest_checksum(self.as_json())})

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, whole or not at all."""
        write_json(folder / MANIFEST_NAME, self.as_json())


def manifest_checksum(values: Mapping[str, Any]) -> str:
    """Hexadecimal SHA-256 of a manifest's values, as JSON has them; its checksum is left out, and so are nulls, which
    stand for what an older version did not have."""
    rest = {name: value for name, value in values.items() if name != "checksum" and value is not None}
    return hashlib.sha256(canonical_json(rest).encode()).hexdigest()


def read_manifest(folder: Path) -> ShardManifest:
    """The manifest of a packed folder.

    Raises:
        InputError: the folder has no manifest (it is no packed folder, or its packing was not finished).
        SchemaVersionError: written by a newer editmill.
        ShardError: the manifest cannot be parsed.
    """
    path = folder / MANIFEST_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            "shards", str(folder), f"has no {MANIFEST_NAME}", "Name a folder that `editmill pack` finished."
        ) from error
    except NotADirectoryError as error:
        raise InputError(
            "shards", str(folder), "is no folder", "Name a folder that `editmill pack` finished."
        ) from error
    except (OSError, ValueError) as error:
        raise ShardError("manifest", str(path), f"cannot be parsed ({error})", "Pack again.") from error
    version = values.get("manifest_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > MANIFEST_VERSION:
        raise SchemaVersionError(
            "manifest_version", version, f"this editmill reads up to {MANIFEST_VERSION}", "Upgrade editmill."
        )
    try:
        return ShardManifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        what = ": ".join((".".join(map(str, first["loc"])) or "all of it", first["msg"]))
        raise ShardError(
            "manifest",
            str(path),
            f"is not a shard manifest ({what})",
            "Name the folder of the shards (in a run folder that is shards/), or pack again.",
        ) from error
