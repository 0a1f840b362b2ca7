"""Pictures in the terminal, as `preview` and `peek` print them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.preview.strip import StripRow

_WIDEST = 160
"""Characters: wider terminals get pictures of this width, so that a screen holds more than one sample."""
_NARROWEST = 16


Weighting = Annotated[str, typer.Option(help="uniform, linear, exponential_root, logarithmic or quadratic_root.")]
MaxWeight = Annotated[
    float | None, typer.Option(help="Cap of the weight; exponential_root needs one.", show_default=False)
]


class TerminalChoice(StrEnum):
    """How the terminal shows pictures."""

    auto = "auto"
    kitty = "kitty"
    sixel = "sixel"
    blocks = "blocks"
    none = "none"


def print_pictures(strips: Callable[[int, int], Iterable[tuple[str, list[StripRow]]]], choice: TerminalChoice) -> None:
    """Print samples where the output can show pictures, and nothing where it cannot.

    Args:
        strips: (width in pixels, width in characters) -> (one line of text, rows of pictures) of each sample.
    """
    import os
    import shutil
    import sys

    from pipelines.preview.terminal import Terminal, detect, pixel_width, show

    is_told = choice is not TerminalChoice.auto
    shown_as = Terminal(choice.value) if is_told else detect(os.environ, sys.stdout.isatty())
    if shown_as is Terminal.NONE:
        return
    columns = max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))
    for line, rows in strips(pixel_width(shown_as, columns), columns):
        if line:
            typer.secho(line, bold=True)
        for row in rows:
            if len(row.titles) > 1:
                typer.echo(row.heading(pixel_width(shown_as, 1)))
            # Colours are the pictures themselves here, so they are kept where the output is no terminal but asked for.
            typer.echo(show(row.picture, shown_as), color=True, nl=False)
        typer.echo()
