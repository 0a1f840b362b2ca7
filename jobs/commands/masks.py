"""`editmill masks`: find what was edited in before/after pairs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, Runner, Workers, mapping, runner_values
from jobs.commands.pictures import TerminalChoice


class Unsure(StrEnum):
    """What happens to a row that was marked unsure."""

    keep = "keep"
    reject = "reject"


class SizeMismatch(StrEnum):
    """What happens to a pair whose images differ in size."""

    reject = "reject"
    resize_reference = "resize_reference"


_MODES: dict[str, frozenset[str]] = {
    "--report": frozenset({"report", "pairs", "output", "weighting", "max_weight"}),
    "--tune": frozenset(
        {"tune", "pairs", "output", "recipe", "parameter", "count", "seed", "terminal", "on_size_mismatch", "column"}
        | {"image_root", "weighting", "max_weight"}
    ),
}
_REVIEW, _REPORT, _TUNE = "Review", "Report", "Tuning"
_ONLY_TUNE = frozenset({"count", "seed", "terminal"})


def masks(
    context: typer.Context,
    pairs: Annotated[
        Path,
        typer.Argument(
            help="A .jsonl or .parquet file, a folder of them, a run folder, a packed folder, or a public data set as "
            "it was released (MagicBrush, OmniEdit, UltraEdit, InstructPix2Pix, ImgEdit, UniWorld's data.txt).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="Run folder to write; run it again to go on. With --tune and --report: folder of the page.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Mask recipe: robust (the default), seed or uniworld.")] = None,
    parameter: Annotated[
        list[str], typer.Option(help="A parameter of the recipe, NAME=VALUE; repeat it for several.")
    ] = [],  # noqa: B006
    compare: Annotated[
        str | None,
        typer.Option(
            help="Build a second recipe's mask beside, and tell where they disagree.", rich_help_panel=_REPORT
        ),
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(help="Marks of a curator (marks.jsonl): rows marked bad are rejected.", rich_help_panel=_REVIEW),
    ] = None,
    unsure: Annotated[
        Unsure | None,
        typer.Option(help="What becomes of rows marked unsure; by default they are kept.", rich_help_panel=_REVIEW),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Only write the report once more, of a run folder or of shards.", rich_help_panel=_REPORT
        ),
    ] = False,
    weighting: Annotated[
        str,
        typer.Option(
            help="Weights told: uniform, linear, exponential_root, logarithmic or quadratic_root.",
            rich_help_panel=_REPORT,
        ),
    ] = "logarithmic",
    max_weight: Annotated[
        float | None,
        typer.Option(
            help="Cap of these weights; exponential_root needs one.", show_default=False, rich_help_panel=_REPORT
        ),
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
    format_: Annotated[
        str | None,
        typer.Option("--format", help="Source that reads PAIRS (magicbrush, imgedit, ...); by default it is told."),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune", help="Try parameters on a few pairs, drawn again at every change.", rich_help_panel=_TUNE
        ),
    ] = False,
    count: Annotated[int, typer.Option(min=1, max=50, help="How many pairs.", rich_help_panel=_TUNE)] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Which pairs.", rich_help_panel=_TUNE)] = 0,
    terminal: Annotated[
        TerminalChoice,
        typer.Option(help="Pictures in the terminal; auto tells by the environment.", rich_help_panel=_TUNE),
    ] = TerminalChoice.auto,
    runner: Runner = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Add to each before/after pair the mask of what was edited (white = edited).

    Reads pairs (references, target, instruction) from JSONL with image files beside it, from Parquet with images
    inside, from an earlier run or from shards. Writes a run folder: EditSamples in records/, rejected pairs with their
    reason in outcomes/, and masks-report.html: status by source, how edited fraction, weight and confidence spread, the
    least confident masks and, with `--compare`, where two recipes disagree, with their pictures and keys.

    **Tune.** `--tune` decodes a few pairs once and draws their masks in the terminal. Type `low_threshold=2.5` and they
    are drawn again at once, with how far each mask moved; `parameters` lists what can be set, `recipe seed` changes the
    recipe, `next` shows other pairs, `page` opens the same in a browser, `save FILE.yaml` keeps it for a pipeline, an
    empty line ends and prints the command that masks everything in this way. The same lines are read from a pipe.

    **Review.** Mark samples good, bad or unsure on the page of `editmill preview`, save marks.jsonl, and give it back
    with `--review`: rows marked bad are rejected (reason `marked_bad`, with your note). PAIRS may be the pairs, or a
    run folder or shards that have masks: those then stay as they are, unless you give an option that says how to build
    masks.

    Examples:

        editmill masks pairs/ --tune --recipe robust --parameter low_threshold=2.5

        editmill masks pairs/ --output runs/masked --compare uniworld --runner ray --workers 2

        editmill masks data/MagicBrush --output runs/magicbrush

        editmill masks runs/masked --review marks.jsonl --output runs/reviewed

        editmill masks shards/pairs --report --output look --weighting linear
    """
    _check_mode(context, tune, report)
    parameters, columns = mapping("--parameter", parameter), mapping("--column", column)
    sizes = None if on_size_mismatch is None else on_size_mismatch.value
    if report:
        from jobs.report.mask_report import write_mask_report

        typer.echo(f"report: {write_mask_report(pairs, output, weighting, max_weight)}")
    elif tune:
        from jobs.samples.files import FileSamples
        from jobs.samples.open import open_samples
        from jobs.tune.loop import tune as run_loop
        from jobs.tune.session import PAGE_NAME, TuneSession
        from jobs.tune.settings import Settings

        samples = open_samples(pairs, columns, image_root)
        session = TuneSession(
            samples,
            Settings(recipe or "robust").with_values(parameters),
            count,
            seed,
            weighting,
            max_weight,
            {} if sizes is None else {"on_size_mismatch": sizes},
            None if output is None else output / PAGE_NAME,
        )
        input_options = [part for text in column for part in ("--column", text)]
        for option, value in (("--image-root", image_root), ("--on-size-mismatch", sizes)):
            input_options += [] if value is None else [option, str(value)]
        # Images that only their names make pairs have no instructions: they can be looked at, not masked for training.
        is_listed = not isinstance(samples, FileSamples)
        verb, end = ("masks", ["--output", "runs/masked"]) if is_listed else ("preview", [])
        run_loop(session, terminal, ["editmill", verb, str(pairs), *input_options], end)
    else:
        step = {
            "recipe": recipe,
            "parameters": parameters or None,
            "compare": compare,
            "on_size_mismatch": sizes,
            "keep_statuses": keep_status or None,
        }
        from jobs.pair_source import pair_source

        source = pair_source(pairs, columns, image_root, format_)
        steps = _steps(source, step, review, unsure)
        settings = {"report": {"weighting": weighting, "max_weight": max_weight}}
        _run(output, source, steps, settings, runner_values(runner, workers, address))


def _check_mode(context: typer.Context, tune: bool, report: bool) -> None:
    """Refuse options that the mode asked for would leave unheeded."""
    from schemas.errors import ConfigError

    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    modes = [mode for mode, is_on in (("--report", report), ("--tune", tune)) if is_on]
    for name in given:
        option = f"--{name.rstrip('_').replace('_', '-')}"
        if modes and name not in _MODES[modes[0]]:
            raise ConfigError(
                option, context.params[name], f"does not belong to {modes[0]}", "Leave out one of the two."
            )
        if not modes and name in _ONLY_TUNE:
            raise ConfigError(option, context.params[name], "belongs to --tune", "Add --tune, or leave it out.")


def _steps(
    source: dict[str, Any], step: dict[str, Any], review: Path | None, unsure: Unsure | None
) -> list[dict[str, Any]]:
    from schemas.errors import ConfigError

    if review is None:
        if unsure is not None:
            raise ConfigError("--unsure", unsure.value, "belongs to --review", "Name the marks, or leave it out.")
        return [{"masks": step}]
    marks = {"marks": str(review), "unsure": None if unsure is None else unsure.value}
    is_asked = any(value is not None for value in step.values())
    masking: list[dict[str, Any]] = [] if _has_masks(source) and not is_asked else [{"masks": step}]
    return [*masking, {"review": marks}]


def _run(
    output: Path | None,
    source: dict[str, Any],
    steps: list[dict[str, Any]],
    more: dict[str, Any],
    runner: dict[str, Any],
) -> None:
    from jobs.launch import given, launch
    from jobs.report.mask_report import MASK_REPORT
    from schemas.errors import ConfigError

    if output is None:
        raise ConfigError("--output", None, "is needed", "Name the run folder, as --output runs/masked.")
    config = {"name": "masks", "output": output, "source": source, "steps": steps, **more, "runner": runner}
    launch(given(config), "editmill masks")
    typer.echo(f"report: {output / MASK_REPORT}")


def _has_masks(source: dict[str, Any]) -> bool:
    from jobs.launch import given
    from jobs.registry import make_source

    [(kind, values)] = source.items()
    return kind in ("run_records", "packed_shards") and "mask" in (
        make_source(kind, given(values), "editmill masks").columns() or ()
    )
