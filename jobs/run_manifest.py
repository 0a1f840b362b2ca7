"""A run's manifest: the whole run in numbers, and which files hold its rows. Readers start here, never with a glob."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from jobs.commits import CommittedFile
from schemas.atomic import write_json
from schemas.config import Config
from schemas.errors import InputError, SchemaVersionError

RUN_MANIFEST_VERSION = 1


class StageEntry(Config):
    """One stage over all partitions."""

    name: str
    version: int
    fingerprint: str
    rows_in: int
    kept: int
    rejected: dict[str, int]
    """Reason -> rows. rows_in = kept + the sum of these."""
    figures: dict[str, int] = Field(default_factory=dict)
    """What else the stage had to tell."""


class PartitionEntry(Config):
    """One partition."""

    name: str
    path: str
    """What was read."""
    rows: tuple[tuple[int, int], ...]
    """(rows in, rows kept) of each stage."""
    records: CommittedFile | None
    outcomes: CommittedFile | None


class RunManifest(Config):
    """`manifest.json` of a run folder."""

    run_manifest_version: int = RUN_MANIFEST_VERSION
    status: Literal["running", "finished"]
    name: str
    fingerprint: str
    """Of the chain and the pack; a run under another one is another run."""
    config: dict[str, Any]
    """The resolved pipeline config."""
    stages: tuple[StageEntry, ...] = ()
    pack: StageEntry | None = None
    """The pack; its fingerprint is the shard manifest's."""
    shards: str | None = None
    """Folder of the shards."""
    columns: tuple[str, ...] = ()
    """Columns of the records."""
    partitions: tuple[PartitionEntry, ...] = ()
    pack_outcomes: CommittedFile | None = None

    def write(self, path: Path) -> None:
        """Write it to `path`, whole or not at all."""
        write_json(path, self.as_json())


def read_run_manifest(folder: Path) -> RunManifest:
    """The manifest of the run folder `folder`.

    Raises:
        InputError: there is none, or it cannot be parsed.
        SchemaVersionError: it was written by a newer editmill.
    """
    path = folder / "manifest.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            "run folder", str(folder), "has no manifest.json", "Name a folder that editmill wrote as a run."
        ) from error
    except NotADirectoryError as error:
        raise InputError(
            "run folder", str(folder), "is no folder", "Name a folder that editmill wrote as a run."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError("run folder", str(path), f"cannot be parsed ({error})", "Run the pipeline again.") from error
    version = values.get("run_manifest_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > RUN_MANIFEST_VERSION:
        raise SchemaVersionError(
            "run_manifest_version", version, f"this editmill reads up to {RUN_MANIFEST_VERSION}", "Upgrade editmill."
        )
    try:
        return RunManifest.model_validate(values)
    except ValidationError as error:
        raise InputError(
            "run folder", str(path), "is not the manifest of a run", "Name a folder that editmill wrote as a run."
        ) from error


def finished_run(folder: Path) -> RunManifest:
    """The manifest of a finished run.

    Raises:
        InputError: there is none, or the run did not finish.
    """
    manifest = read_run_manifest(folder)
    if manifest.status != "finished":
        raise InputError("run folder", str(folder), "is of a run that did not finish", "Run it again, to its end.")
    return manifest
