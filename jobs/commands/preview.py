"""`editmill preview`: look at packed samples, on a sheet, on a page and in the terminal."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_WIDEST = 160
"""Characters: wider terminals get pictures of this width, so that a screen holds more than one sample."""


class TerminalChoice(StrEnum):
    """How the terminal shows pictures."""

    auto = "auto"
    kitty = "kitty"
    sixel = "sixel"
    blocks = "blocks"
    none = "none"


def preview(
    shards: Annotated[
        Path, typer.Argument(help="A packed folder: the one that holds manifest.json.", show_default=False)
    ],
    count: Annotated[int, typer.Option(min=1, max=500, help="How many samples to show.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Which samples: the same seed, the same samples.")] = 0,
    weighting: Annotated[
        str, typer.Option(help="uniform, linear, exponential_root, logarithmic or quadratic_root.")
    ] = "logarithmic",
    max_weight: Annotated[
        float | None, typer.Option(help="Cap of the weight; exponential_root needs one.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the sheet and the page.")] = Path("preview"),
    terminal: Annotated[
        TerminalChoice, typer.Option(help="Pictures in the terminal; auto tells by the environment.")
    ] = TerminalChoice.auto,
) -> None:
    """Look at packed samples: reference, target, mask over target, and the weight map with its w.

    Reads a packed folder through its manifest and index, and of its shards only the samples shown. Every mask status
    is among them where there is room; the rest are drawn by share. Writes contact-sheet.png and preview.html (one
    file that needs nothing else: send it to a colleague), and prints the pictures where the terminal can show any.

    Weights are those of the whole image at full resolution; a trainer that crops takes them from the crop. A plain
    xterm with sixel needs --terminal sixel. Exit code 1 where a sample could not be decoded; the others are shown.

    Examples:

        editmill preview runs/first/shards --count 24 --seed 7 --output look

        editmill preview runs/first/shards --weighting exponential_root --max-weight 32
    """
    import os
    import shutil
    import sys

    from jobs.preview_job import PreviewOptions, write_preview
    from pipelines.preview.terminal import Terminal, detect, pixel_width, show

    options = PreviewOptions(count, seed, weighting, max_weight)
    written = write_preview(shards, output, options)
    is_told = terminal is not TerminalChoice.auto
    shown_as = Terminal(terminal.value) if is_told else detect(os.environ, sys.stdout.isatty())
    if shown_as is not Terminal.NONE:
        columns = max(16, min(shutil.get_terminal_size().columns, _WIDEST))
        for line, picture in written.strips(pixel_width(shown_as, columns)):
            typer.echo(line)
            # Colours are the pictures themselves here, so they are kept where the output is no terminal but asked for.
            typer.echo(show(picture, shown_as), color=True)
    typer.echo(f"contact sheet  {written.sheet}")
    typer.echo(f"page           {written.page}")
    for key, sentence in written.undecodable:
        typer.secho(f"not shown: {key}: {sentence}", err=True, fg=typer.colors.RED)
    if written.undecodable:
        raise typer.Exit(1)
