"""What a packed folder holds before, during and after packing: the rules that make a restart safe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.pack.card import dataset_card
from pipelines.pack.config import PackConfig
from pipelines.pack.shard import WORK_FOLDER, is_in_place
from schemas.atomic import remove_partials, sync_folder, write_bytes, write_json
from schemas.errors import InputError, OutputError, SchemaVersionError, ShardError
from schemas.folders import check_can_be_folder, check_holds_only
from schemas.layout import CARD_NAME, INDEX_NAME, MANIFEST_NAME, PARQUET_FOLDER, WEBDATASET_FOLDER
from schemas.manifest import ShardManifest, StepHistory, read_manifest
from schemas.units import bytes_text

JOB_NAME = "job.json"
LOCK = f"{WORK_FOLDER}/lock"
"""File that is held with flock while somebody packs."""
OURS = (MANIFEST_NAME, INDEX_NAME, CARD_NAME, WEBDATASET_FOLDER, PARQUET_FOLDER, WORK_FOLDER)
"""All that a packed folder ever holds."""


def finished_manifest(out: Path, fingerprint: str) -> ShardManifest | None:
    """The manifest, where `out` holds the finished packing with this fingerprint and every file stands in its size.

    An altered manifest is none; packing again makes it anew.

    What a killed `finish` left is cleaned up. A lost dataset card is written again; one that was edited stays.
    """
    if not (out / MANIFEST_NAME).exists():
        return None
    manifest = _manifest(out)
    if manifest is None or manifest.fingerprint != fingerprint or manifest != manifest.sealed():
        return None
    if not all(is_in_place(out, entry) for entry in (*manifest.shards, manifest.index)):
        return None
    finish(out)
    if not (out / CARD_NAME).exists():
        write_card(out, manifest)
    return manifest


def write_card(out: Path, manifest: ShardManifest) -> None:
    """Write the dataset card that the manifest gives."""
    write_bytes(out / CARD_NAME, dataset_card(manifest).encode())


def check_output(out: Path) -> None:
    """Check, before anything is read, that shards can come to `out`; changes nothing.

    Raises:
        InputError: `out` or one of its parents is a file, or it holds foreign files.
    """
    check_can_be_folder(out, "packed folder")
    check_holds_only(out, "packed folder", OURS, "no packing")


def check_is_ours(out: Path, fingerprint: str, overwrite: bool) -> None:
    """Check that `out` holds nothing but this packing, or may be overwritten; changes nothing.

    Raises:
        InputError: as `check_output`; or `out` holds another packing, and `overwrite` is False.
    """
    check_output(out)
    job = _job_fingerprint(out)
    if job is None and (out / MANIFEST_NAME).exists():
        manifest = _manifest(out)
        job = None if manifest is None else manifest.fingerprint
    if job != fingerprint and _holds_something(out) and not overwrite:
        raise another_packing(out)


def _holds_something(out: Path) -> bool:
    return any((out / name).exists() for name in OURS if name != WORK_FOLDER)


def check_could_be_ours(out: Path, config: PackConfig, history: Sequence[StepHistory]) -> None:
    """Check, before a sample is known, that `out` does not hold what was packed with another config or after other
    steps; changes nothing.

    Args:
        history: of the samples; its counts do not matter.

    Raises:
        InputError: it does.
    """
    if not _holds_something(out):
        return
    job = out / WORK_FOLDER / JOB_NAME
    if job.exists():
        if json.loads(job.read_text(encoding="utf-8"))["config"] != config.as_json():
            raise another_packing(out)
    elif (out / MANIFEST_NAME).exists():
        manifest = _manifest(out)
        former = None if manifest is None else (manifest.config, _steps(manifest.history or ()))
        if former != (config.as_json(), _steps(history)):
            raise another_packing(out)


def _steps(history: Sequence[StepHistory]) -> list[tuple[str, int, dict[str, Any]]]:
    return [(step.name, step.version, step.config) for step in history]


def another_packing(out: Path) -> InputError:
    """The error where `out` holds what may not be overwritten."""
    return InputError(
        "packed folder",
        str(out),
        "holds shards of other samples, or packed with another config",
        "Name another folder, or allow overwriting (--overwrite).",
    )


def begin(out: Path, fingerprint: str, config: PackConfig) -> None:
    """Make `out` ready for this packing: fresh, or as a killed one of the same fingerprint left it.

    Raises:
        OutputError: it cannot be made.
    """
    # The order matters: from here on the folder says what it is becoming, and that it is not finished.
    write_json(out / WORK_FOLDER / JOB_NAME, {"fingerprint": fingerprint, "config": config.as_json()})
    (out / MANIFEST_NAME).unlink(missing_ok=True)
    sync_folder(out)
    _clear_uncommitted(out, fingerprint)
    _remove_partials(out)


def check_room(out: Path, needed: int) -> None:
    """Hold the bytes of all shards, less those of the shards that stand already, against what is free.

    Raises:
        OutputError: there is too little room.
    """
    standing = sum(
        path.stat().st_size for name in (WEBDATASET_FOLDER, PARQUET_FOLDER) for path in (out / name).glob("*")
    )
    free = shutil.disk_usage(out).free
    if free < needed - standing:
        raise OutputError(
            "packed folder",
            str(out),
            f"has {bytes_text(free)} free, and the shards need {bytes_text(needed - standing)}",
            "Free some, or name a folder on a larger disk.",
        )


def finish(out: Path) -> None:
    """Remove `.work/`, and what workers that were lost on the way left; called once the manifest stands."""
    _remove_partials(out)
    shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
    sync_folder(out)


def _remove_partials(out: Path) -> None:
    for folder in (out, *(out / name for name in (WORK_FOLDER, WEBDATASET_FOLDER, PARQUET_FOLDER))):
        if folder.exists():
            remove_partials(folder)


def _job_fingerprint(out: Path) -> str | None:
    path = out / WORK_FOLDER / JOB_NAME
    if not path.exists():
        return None
    return str(json.loads(path.read_text(encoding="utf-8"))["fingerprint"])


def _manifest(out: Path) -> ShardManifest | None:
    try:
        return read_manifest(out)
    except (ShardError, SchemaVersionError):
        # Damaged, or a newer editmill's: whatever it is, it is not this packing.
        return None


def _clear_uncommitted(out: Path, fingerprint: str) -> None:
    for name in (INDEX_NAME, CARD_NAME):
        (out / name).unlink(missing_ok=True)
    committed: set[str] = set()
    for record in sorted((out / WORK_FOLDER).glob("*.json")):
        if record.name == JOB_NAME:
            continue
        values = json.loads(record.read_text(encoding="utf-8"))
        if values["fingerprint"] == fingerprint:
            committed.update(entry["name"] for entry in values["files"])
        else:
            record.unlink()
    for folder in (WEBDATASET_FOLDER, PARQUET_FOLDER):
        for path in sorted((out / folder).glob("*")):
            if f"{folder}/{path.name}" not in committed:
                path.unlink()
        if (out / folder).exists() and not any((out / folder).iterdir()):
            (out / folder).rmdir()
