"""`editmill preview`: look at samples and at how their masks came about, on a sheet, on a page and in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.commands.masks import SizeMismatch
from jobs.commands.options import mapping
from jobs.commands.pictures import MaxWeight, TerminalChoice, Weighting, print_pictures

if TYPE_CHECKING:
    from jobs.samples.base import Samples
    from pipelines.masks.step import EditMasks

_MOST_TOLD = 10


def preview(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="A packed folder, a run folder, a .jsonl or .parquet file or a folder of them, or a folder of images "
            "that their names make pairs.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        list[Path], typer.Option(help="Instead of PATH: the image before the edit; repeat it for several.")
    ] = [],  # noqa: B006
    target: Annotated[
        Path | None, typer.Option(help="With --reference: the image after the edit.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=500, help="How many samples to show.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Which samples: the same seed, the same samples.")] = 0,
    recipe: Annotated[
        str | None, typer.Option(help="Build the masks here with robust (the default), seed or uniworld.")
    ] = None,
    parameter: Annotated[
        list[str], typer.Option(help="A parameter of the recipe, NAME=VALUE; repeat it for several.")
    ] = [],  # noqa: B006
    on_size_mismatch: Annotated[
        SizeMismatch | None, typer.Option(help="A pair whose images differ in size; by default it gets no mask.")
    ] = None,
    column: Annotated[
        list[str], typer.Option(help="Where a field of pairs has another name: FIELD=NAME, as references=before.")
    ] = [],  # noqa: B006
    image_root: Annotated[
        Path | None, typer.Option(help="JSONL: folder of the images; by default the file's own.")
    ] = None,
    weighting: Weighting = "logarithmic",
    max_weight: MaxWeight = None,
    steps: Annotated[bool, typer.Option(help="Show on the sheet and in the terminal how each mask came about.")] = True,
    output: Annotated[Path, typer.Option(help="Folder for the sheet and the page.")] = Path("preview"),
    terminal: Annotated[
        TerminalChoice, typer.Option(help="Pictures in the terminal; auto tells by the environment.")
    ] = TerminalChoice.auto,
) -> None:
    """Look at edits: reference, target, the mask after each of its steps, mask over target, and the weight map with w.

    Reads what an index says first, then only the samples shown. Pairs that have no mask yet get one here; a mask that
    is stored is shown as it is, unless --recipe, --parameter or --on-size-mismatch ask for another one. No pair is left
    out for its status. Writes contact-sheet.png (and contact-sheet-2.png, ... where one would be too high to view)
    and preview.html (one file that needs nothing else: send it to a colleague), and prints the pictures where the
    terminal can show any.

    **Which samples.** Every mask status is among them where there is room, the rest are drawn by share; within a status
    they are spread over the deciles of the edited area. The status of pairs without a mask is not known before one is
    built: they are drawn uniformly.

    In a step's picture white stayed, green came in and orange went. Weights are those of the whole image at full
    resolution; a trainer that crops takes them from the crop. A plain xterm with sixel needs --terminal sixel. Exit
    code 1 where a sample could not be decoded; the others are shown.

    Examples:

        editmill preview runs/first/shards --count 24 --seed 7 --output look

        editmill preview data/pairs.jsonl --recipe uniworld --parameter threshold=12

        editmill preview --reference before.png --target after.png

        editmill preview shards/pairs --weighting exponential_root --max-weight 32 --no-steps
    """
    from jobs.preview_job import PreviewOptions, write_preview

    samples = _samples(path, reference, target, column, image_root)
    is_asked = recipe is not None or bool(parameter) or on_size_mismatch is not None
    masking = _masking(recipe, parameter, on_size_mismatch)
    options = PreviewOptions(count, seed, weighting, max_weight, steps, is_asked)
    written = write_preview(samples, output, options, masking)
    print_pictures(written.strips, terminal)
    for place in written.sheets:
        typer.echo(f"contact sheet  {place}")
    typer.echo(f"page           {written.page}")
    for one in samples.told[:_MOST_TOLD]:
        typer.secho(f"left out: {one.name}: {one.sentence}", err=True, fg=typer.colors.YELLOW)
    if len(samples.told) > _MOST_TOLD:
        typer.secho(f"left out: {len(samples.told) - _MOST_TOLD} more", err=True, fg=typer.colors.YELLOW)
    for one in written.undecodable:
        typer.secho(f"not shown: {one.name}: {one.sentence}", err=True, fg=typer.colors.RED)
    if written.undecodable:
        raise typer.Exit(1)


def _samples(
    path: Path | None, references: list[Path], target: Path | None, column: list[str], image_root: Path | None
) -> Samples:
    from jobs.samples.files import one_pair
    from jobs.samples.open import open_samples
    from schemas.errors import ConfigError

    mend = "Name a PATH, or one pair with --reference and --target."
    if path is not None:
        if references or target is not None:
            raise ConfigError("PATH", str(path), "does not go with --reference and --target", mend)
        return open_samples(path, mapping("--column", column), image_root)
    if not references or target is None:
        raise ConfigError("PATH", None, "there is nothing to look at", mend)
    if column or image_root is not None:
        raise ConfigError("--column, --image-root", None, "belong to lists of pairs", "Leave them out.")
    return one_pair(references, target)


def _masking(recipe: str | None, parameter: list[str], on_size_mismatch: SizeMismatch | None) -> EditMasks:
    from jobs.launch import given
    from pipelines.masks.step import EditMasks, EditMasksConfig
    from schemas.config import parse_config

    values = {
        "recipe": recipe,
        "parameters": mapping("--parameter", parameter) or None,
        "on_size_mismatch": None if on_size_mismatch is None else on_size_mismatch.value,
    }
    return EditMasks(parse_config(EditMasksConfig, given(values), "editmill preview"))
