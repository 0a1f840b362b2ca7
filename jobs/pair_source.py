"""Which source reads a path that somebody gives: pairs in JSONL or in Parquet, the records of a run, or shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError, InputError
from schemas.layout import MANIFEST_NAME


def pair_source(pairs: Path, columns: Mapping[str, Any], image_root: Path | None) -> dict[str, dict[str, Any]]:
    """The `source` section of a pipeline config for `pairs`; values that are None stand for the source's defaults.

    Args:
        pairs: a .jsonl or .parquet file, a folder of them, a run folder, or a packed folder.
        columns: field -> the name it has in the file.
        image_root: JSONL: folder of the images.

    Raises:
        ConfigError: an option that does not belong to this kind of input.
        InputError: there is no such path.
    """
    from jobs.launch import is_run_folder

    kind = "edit_pairs_jsonl"
    if is_run_folder(pairs):
        kind = "run_records"
    elif (pairs / MANIFEST_NAME).is_file():
        kind = "packed_shards"
    elif pairs.suffix == ".parquet" or (
        pairs.is_dir() and not any(pairs.glob("*.jsonl")) and any(pairs.rglob("*.parquet"))
    ):
        kind = "edit_pairs_parquet"
    elif not pairs.exists():
        raise InputError("pairs", str(pairs), "does not exist", "Name a .jsonl or .parquet file, or a folder of them.")
    if image_root is not None and kind != "edit_pairs_jsonl":
        raise ConfigError("--image-root", str(image_root), "belongs to JSONL input", "Leave it out.")
    if columns and kind in ("run_records", "packed_shards"):
        raise ConfigError("--column", columns, "does not belong to a run folder or to shards", "Leave it out.")
    place: dict[str, Any] = {"paths": [str(pairs)]} if kind == "edit_pairs_parquet" else {"path": str(pairs)}
    values = {
        **place,
        "columns": columns or None,
        "image_root": None if image_root is None else str(image_root),
    }
    return {kind: values}
