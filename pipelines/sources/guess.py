"""Which source reads what a user points at: told by names of files and columns, never by reading rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.parquet_files import read_footer
from pipelines.sources.instructpix2pix import InstructPix2Pix
from pipelines.sources.magicbrush import MagicBrush
from pipelines.sources.omniedit import OmniEdit
from pipelines.sources.ultraedit import UltraEdit
from schemas.errors import InputError
from schemas.layout import MANIFEST_NAME

FORMATS: dict[str, str] = {
    "edit_pairs_jsonl": "path",
    "edit_pairs_parquet": "paths",
    "imgedit": "path",
    "instructpix2pix": "paths",
    "magicbrush": "paths",
    "omniedit": "paths",
    "packed_shards": "path",
    "ultraedit": "paths",
    "uniworld_data": "path",
}
"""Name of a source of edit pairs -> its config key that says where the data is."""

_HUB = (MagicBrush, OmniEdit, UltraEdit, InstructPix2Pix)
_IMGEDIT = ({"input_images", "output_images", "prompt"}, {"data"})


def guess_source(path: Path) -> str:
    """The name of the source that reads `path`.

    Packed shards by their manifest, `data.txt` by its name, ImgEdit and the data sets of the hub by the columns of
    their first Parquet file; other Parquet files are `edit_pairs_parquet`, and everything else is `edit_pairs_jsonl`.

    Raises:
        InputError: the path does not exist, or its first Parquet file is none.
    """
    if not path.exists():
        raise InputError("pairs", str(path), "does not exist", "Name a file, or a folder with a data set.")
    if (path / MANIFEST_NAME).is_file():
        return "packed_shards"
    if path.is_file() and path.suffix == ".txt":
        return "uniworld_data"
    if path.is_dir() and any(path.glob("*.jsonl")):
        return "edit_pairs_jsonl"
    first = path if path.suffix == ".parquet" and path.is_file() else next(iter(sorted(path.rglob("*.parquet"))), None)
    if first is None:
        return "edit_pairs_jsonl"
    columns = set(read_footer(str(first)).schema.to_arrow_schema().names)
    for source in _HUB:
        layout = source.layout
        found = [set(spellings) & columns for spellings in (layout.reference, layout.target, layout.instruction)]
        if all(found) and columns.issuperset(layout.identity):
            return source.name
    if path.is_dir() and any(columns.issuperset(names) for names in _IMGEDIT):
        return "imgedit"
    return "edit_pairs_parquet"


def source_values(name: str, path: Path) -> dict[str, Any]:
    """The config values of the source `name` for data at `path`, all others left to their defaults.

    Args:
        name: a key of `FORMATS`.
    """
    return {"paths": [str(path)]} if FORMATS[name] == "paths" else {"path": str(path)}
