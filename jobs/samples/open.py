"""From a path to the samples that lie there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobs.launch import given, is_run_folder
from jobs.pair_source import LISTS, pair_source
from jobs.registry import make_source
from jobs.run_manifest import read_run_manifest
from jobs.samples.base import Samples
from jobs.samples.files import named_pairs
from jobs.samples.lines import LineSamples
from jobs.samples.packed import PackedSamples
from jobs.samples.tables import PairTableSamples, RunSamples
from pipelines.preview.named_pairs import EXTENSIONS
from pipelines.sources.edit_pairs_jsonl import EditPairsJsonl
from pipelines.sources.edit_pairs_parquet import EditPairsParquet
from schemas.errors import ConfigError, InputError
from schemas.layout import MANIFEST_NAME


def open_samples(path: Path, columns: Mapping[str, str] | None = None, image_root: Path | None = None) -> Samples:
    """The samples at `path`.

    Args:
        path: a packed folder; a run folder (the shards it packed, else its records); a .jsonl or .parquet file of pairs
            or a folder of them; or a folder of images that their names make pairs.
        columns: pairs: field -> the name it has in the file.
        image_root: JSONL: folder of the images.

    Raises:
        ConfigError: an option that does not belong to what lies there.
        InputError: there is nothing, or nothing that holds samples.
        SchemaError, SchemaVersionError, ShardError: it is damaged, or of a newer editmill.
    """
    if path.suffix.lower() in EXTENSIONS and path.is_file():
        mend = "Show one pair with --reference BEFORE --target AFTER."
        raise InputError("path", str(path), "is an image by its name", mend)
    if path.suffix == ".tar" and path.is_file():
        raise InputError("path", str(path), "is a single shard", "Name the packed folder, or use editmill peek.")
    packed = _packed_folder(path)
    is_named = packed is None and not is_run_folder(path) and _holds_no_list(path)
    if (packed is not None or is_named) and (columns or image_root is not None):
        option = "--column" if columns else "--image-root"
        raise ConfigError(option, str(columns or image_root), "belongs to lists of pairs", "Leave it out.")
    if packed is not None:
        return PackedSamples(packed)
    if is_named:
        return named_pairs(path)
    [(kind, values)] = pair_source(path, columns or {}, image_root).items()
    if kind == "run_records":
        return RunSamples(path)
    # What waits for an instruction can be looked at all the same.
    if kind in LISTS:
        source = make_source(kind, {**given(values), "needs_instruction": False}, "editmill preview")
        name = path.resolve().name
        if isinstance(source, EditPairsJsonl):
            return LineSamples(name, source)
        if isinstance(source, EditPairsParquet):
            return PairTableSamples(name, source)
    mend = f"Build masks first (editmill masks {path} --output runs/masked), then look at that run."
    raise InputError("path", str(path), f"is read by the source {kind}, which preview does not open", mend)


def _packed_folder(path: Path) -> Path | None:
    """The packed folder that `path` means, if it means one."""
    if not is_run_folder(path):
        return path if (path / MANIFEST_NAME).is_file() else None
    shards = read_run_manifest(path).shards
    if shards is None:
        return None
    # A run folder that was moved has its own shards still beside it.
    return Path(shards) if Path(shards).is_dir() else path / "shards"


def _holds_no_list(path: Path) -> bool:
    return path.is_dir() and not any(path.glob("*.jsonl")) and not any(path.rglob("*.parquet"))
