"""Which source reads a path that somebody gives: records of a run, shards, a public data set, or a list of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.sources.guess import FORMATS, guess_source, source_values
from schemas.errors import ConfigError

RECORDS = "run_records"
LISTS = ("edit_pairs_jsonl", "edit_pairs_parquet")
"""Sources whose columns the user may name."""


def pair_source(
    pairs: Path, columns: Mapping[str, Any], image_root: Path | None, kind: str | None = None
) -> dict[str, dict[str, Any]]:
    """The `source` section of a pipeline config for `pairs`; values that are None stand for the source's defaults.

    Args:
        pairs: a .jsonl or .parquet file, a folder of them, a run folder, a packed folder, or a public data set as it
            was released.
        columns: field -> the name it has in the file; a Parquet file whose columns are named is a list of pairs.
        image_root: JSONL: folder of the images.
        kind: name of the source, a key of `FORMATS`; None to tell by names of files and columns.

    Raises:
        ConfigError: an option that does not belong to this kind of input, or no such source.
        InputError: there is no such path.
    """
    from jobs.launch import is_run_folder

    if kind is not None and kind not in FORMATS:
        raise ConfigError("--format", kind, f"must be one of {', '.join(sorted(FORMATS))}", "Correct the name.")
    if kind is None:
        kind = RECORDS if is_run_folder(pairs) else guess_source(pairs)
        is_parquet = kind in FORMATS and FORMATS[kind] == "paths"
        if columns and is_parquet:
            kind = "edit_pairs_parquet"
    if image_root is not None and kind != "edit_pairs_jsonl":
        raise ConfigError("--image-root", str(image_root), "belongs to JSONL input", "Leave it out.")
    if columns and kind not in LISTS:
        raise ConfigError("--column", columns, f"does not belong to the source '{kind}'", "Leave it out.")
    place = {"path": str(pairs)} if kind == RECORDS else source_values(kind, pairs)
    values = {
        **place,
        "columns": columns or None,
        "image_root": None if image_root is None else str(image_root),
    }
    return {kind: values}
