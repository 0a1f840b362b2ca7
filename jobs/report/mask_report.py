"""Writing the mask report of a run, or of a packed folder."""

from __future__ import annotations

from itertools import chain as joined
from pathlib import Path

from jobs.build import build_chain
from jobs.chain import Chain
from jobs.config import PipelineConfig
from jobs.report.mask_figures import figures_of
from jobs.report.mask_page import mask_page
from jobs.report.mask_pairs import pairs_of_run, pairs_of_shards
from jobs.report.mask_rows import rows_of_run, rows_of_shards
from jobs.run_folder import RunFolder
from jobs.run_manifest import RunManifest, read_run_manifest
from pipelines.shards.read import open_packed
from schemas.atomic import write_bytes
from schemas.config import parse_config
from schemas.errors import ConfigError, ContractError, InputError
from schemas.manifest import read_manifest
from schemas.records import EDIT_SAMPLE
from schemas.weighting import check_weighting

MASK_REPORT = "masks-report.html"


def has_masks(manifest: RunManifest) -> bool:
    """Whether a run built masks, or read rows that have some."""
    steps = {name for step in manifest.config.get("steps", ()) for name in step}
    packed = manifest.shards is not None and read_manifest(Path(manifest.shards)).record == EDIT_SAMPLE.name
    return "masks" in steps or packed or "mask_status" in manifest.columns


def report_of_run(
    manifest: RunManifest, folder: RunFolder, chain: Chain, weighting: str = "logarithmic", cap: float | None = None
) -> str:
    """The mask report of a finished run that has masks, as a page.

    Raises:
        ConfigError: the weighting or its cap is wrong.
        ContractError: rows are missing from it.
        EditmillError: the source or a file of the run cannot be read any more.
    """
    rows = rows_of_run(manifest, folder)
    if manifest.shards is not None:
        rows = joined(rows_of_shards(open_packed(Path(manifest.shards))), rows)
    figures = figures_of(rows)
    if figures.rows != manifest.stages[0].rows_in:
        raise ContractError(
            f"mask report of '{manifest.name}'",
            {"read": manifest.stages[0].rows_in, "reported": figures.rows},
            "must tell of every row",
            "Report this defect of editmill.",
        )
    pairs = pairs_of_run([*figures.least_confident, *figures.disagreeing], manifest, folder, chain)
    return mask_page(figures, pairs, f"Masks of the run {folder.path.resolve().name}", weighting, cap)


def write_mask_report(
    place: Path, output: Path | None = None, weighting: str = "logarithmic", cap: float | None = None
) -> Path:
    """Write `masks-report.html` of a finished run, or of a packed folder, and return its path.

    Args:
        place: the run folder, or the folder of the shards.
        output: the folder to write to; by default a run's own.
        weighting, cap: as `schemas.weighting.region_weight`.

    Raises:
        ConfigError: the weighting or its cap is wrong; shards without `output`.
        InputError: neither a finished run nor a packed folder, or it holds no masks.
        EditmillError: something cannot be read any more.
    """
    check_weighting(weighting, cap)
    if not (place / "config.yaml").is_file():
        packed = open_packed(place)
        if packed.record is not EDIT_SAMPLE:
            raise InputError("masks", str(place), "holds images with captions, no masks", "Name edit shards.")
        if output is None:
            raise ConfigError("--output", None, "is needed for shards", "Name the folder for the report.")
        figures = figures_of(rows_of_shards(packed))
        pairs = pairs_of_shards([*figures.least_confident, *figures.disagreeing], packed)
        page = mask_page(figures, pairs, f"Masks of the shards {place.resolve().name}", weighting, cap)
        path = output / MASK_REPORT
    else:
        manifest = read_run_manifest(place)
        if manifest.status != "finished":
            raise InputError("masks", str(place), "is of a run that did not finish", "Run it again, to its end.")
        if not has_masks(manifest):
            raise InputError("masks", str(place), "is of a run without masks", "Name a run of editmill masks.")
        chain = build_chain(parse_config(PipelineConfig, manifest.config, str(place)), str(place))
        page = report_of_run(manifest, RunFolder(place), chain, weighting, cap)
        path = (output or place) / MASK_REPORT
    write_bytes(path, page.encode())
    return path
