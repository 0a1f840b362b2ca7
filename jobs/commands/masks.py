"""`editmill masks`: find what was edited in before/after pairs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, Runner, RunnerKind, Workers, mapping, runner_values


class Unsure(StrEnum):
    """What happens to a row that was marked unsure."""

    keep = "keep"
    reject = "reject"


class SizeMismatch(StrEnum):
    """What happens to a pair whose images differ in size."""

    reject = "reject"
    resize_reference = "resize_reference"


def masks(
    pairs: Annotated[
        Path,
        typer.Argument(help="A .jsonl or .parquet file, a folder of them, or a run folder.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Run folder to write; run again on the same one to go on.", show_default=False),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Mask recipe: robust (the default), seed or uniworld.")] = None,
    parameter: Annotated[
        list[str], typer.Option(help="A parameter of the recipe, NAME=VALUE; repeat it for several.")
    ] = [],  # noqa: B006
    compare: Annotated[
        str | None, typer.Option(help="Build a second recipe's mask beside, and tell where the two disagree.")
    ] = None,
    review: Annotated[
        Path | None, typer.Option(help="Marks of a curator (marks.jsonl): rows marked bad are rejected.")
    ] = None,
    unsure: Annotated[
        Unsure | None, typer.Option(help="With --review, rows marked unsure; by default they are kept.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Only write the report, of a run folder or of shards, once more.")
    ] = False,
    weighting: Annotated[
        str | None, typer.Option(help="Weights in the report: by default logarithmic. See editmill preview --help.")
    ] = None,
    max_weight: Annotated[
        float | None, typer.Option(help="Cap of these weights; exponential_root needs one.", show_default=False)
    ] = None,
    on_size_mismatch: Annotated[
        SizeMismatch | None, typer.Option(help="A pair whose images differ in size; by default it is rejected.")
    ] = None,
    keep_status: Annotated[
        list[str], typer.Option(help="Mask status to keep; repeat it. By default ok and global.")
    ] = [],  # noqa: B006
    column: Annotated[
        list[str], typer.Option(help="Where a field has another name: FIELD=NAME, as references=before.")
    ] = [],  # noqa: B006
    image_root: Annotated[
        Path | None, typer.Option(help="JSONL: folder of the images; by default the file's own.")
    ] = None,
    runner: Runner = RunnerKind.in_process,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Add to each before/after pair the mask of what was edited (white = edited).

    Reads pairs (references, target, instruction) from JSONL with image files beside it, from Parquet with images
    inside, or from an earlier run. Writes a run folder: EditSamples in records/, rejected pairs with their reason in
    outcomes/, and masks-report.html: status by source, how edited fraction, weight and confidence spread, the least
    confident masks and, with `--compare`, where two recipes disagree, with their pictures and keys.

    **Review.** Mark samples good, bad or unsure on the page of `editmill preview`, save marks.jsonl, and give it back
    with `--review`: rows marked bad are rejected (reason `marked_bad`, with your note). PAIRS may be the pairs, or the
    run folder of their masks: those then stay as they are, unless you give an option that says how to build masks.

    Examples:

        editmill masks pairs/ --output runs/masked --recipe uniworld --runner ray --workers 2

        editmill masks runs/masked --review marks.jsonl --output runs/reviewed

        editmill masks shards/pairs --report --output look --weighting linear
    """
    from jobs.launch import given, launch
    from jobs.pair_source import pair_source
    from jobs.report.mask_report import MASK_REPORT, write_mask_report
    from schemas.errors import ConfigError

    building = {"--recipe": recipe, "--parameter": parameter, "--compare": compare, "--review": review}
    if report:
        for option, value in building.items():
            if value:
                raise ConfigError(option, str(value), "does not belong to --report", "Leave out one of the two.")
        typer.echo(f"report: {write_mask_report(pairs, output, weighting or 'logarithmic', max_weight)}")
        return
    if output is None:
        raise ConfigError("--output", None, "is needed", "Name the run folder, as --output runs/masked.")

    if unsure is not None and review is None:
        raise ConfigError("--unsure", unsure.value, "belongs to --review", "Name the marks, or leave it out.")
    step: dict[str, Any] = given(
        {
            "recipe": recipe,
            "parameters": mapping("--parameter", parameter) or None,
            "compare": compare,
            "on_size_mismatch": None if on_size_mismatch is None else on_size_mismatch.value,
            "keep_statuses": keep_status or None,
        }
    )
    steps: list[dict[str, Any]] = [{"masks": step}]
    if review is not None:
        marks = {"marks": str(review), "unsure": None if unsure is None else unsure.value}
        steps = ([] if _has_masks(pairs) and not step else steps) + [{"review": marks}]
    config = {
        "name": "masks",
        "output": output,
        "source": pair_source(pairs, mapping("--column", column), image_root),
        "steps": steps,
        "report": {"weighting": weighting, "max_weight": max_weight},
        "runner": runner_values(runner, workers, address),
    }
    launch(given(config), "editmill masks")
    typer.echo(f"report: {output / MASK_REPORT}")


def _has_masks(pairs: Path) -> bool:
    from jobs.launch import is_run_folder
    from jobs.run_manifest import read_run_manifest

    return is_run_folder(pairs) and "mask" in read_run_manifest(pairs).columns
