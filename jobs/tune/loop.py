"""The tuning session at a terminal, or fed from a pipe: read a line, do it, show the pairs, until it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from jobs.commands.pictures import TerminalChoice, print_pictures
from jobs.tune.commands import Effect, answer
from jobs.tune.drawing import COLUMNS
from jobs.tune.session import TuneSession
from jobs.tune.settings import command_line, parameter_rows
from pipelines.preview.card import percent
from pipelines.preview.strip import StripRow, edit_strip
from schemas.errors import EditmillError

FAILED = 1
"""Exit code of a session fed from a pipe in which a command failed."""


def tune(session: TuneSession, choice: TerminalChoice, before: list[str], after: list[str]) -> None:
    """Run a session to its end, and print the command that masks everything in the same way.

    Args:
        choice: how the terminal shows pictures.
        before, after: the words of that command before and after the recipe.

    Raises:
        EditmillError: the session cannot begin.
        typer.Exit: with code 1, where commands came from a pipe and one of them failed.
    """
    start = time.perf_counter()
    session.start()
    _show(session, choice, start)
    is_asked = sys.stdin.isatty()
    if is_asked:
        typer.echo("Type name=value to set a parameter; help tells the rest; an empty line ends.")
    failed = False
    for line in _typed() if is_asked else _piped():
        start = time.perf_counter()
        try:
            done = answer(session, line)
        except EditmillError as error:
            failed = True
            typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
            continue
        if done.effect is Effect.END:
            break
        if done.effect is Effect.DRAWN:
            _show(session, choice, start)
        elif done.effect is Effect.PARAMETERS:
            _parameters(session)
        else:
            typer.echo(done.text)
    session.write_page(reloads=False)
    typer.echo(command_line([*before, *session.settings.options(), *after]))
    if failed and not is_asked:
        raise typer.Exit(FAILED)


def _typed() -> Iterator[str]:
    """Lines typed at a prompt, where the arrow keys bring back former ones; Ctrl-D and Ctrl-C end them."""
    with suppress(ImportError):  # Python can be built without it.
        import_module("readline")
    while True:
        try:
            yield input("tune> ")
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return


def _piped() -> Iterator[str]:
    """Lines of a pipe or a file, each told as it is done; blank ones end nothing there."""
    for line in sys.stdin:
        if line.strip():
            typer.echo(f"tune> {line.strip()}")
            yield line.strip()


def _show(session: TuneSession, choice: TerminalChoice, start: float) -> None:
    looks = [one.look for one in session.drawn]

    def strips(width: int, characters: int) -> Iterator[tuple[str, list[StripRow]]]:
        for look in looks:
            told = "" if look.fraction is None else percent(look.fraction)
            # The table tells w: without the weight map the mask is drawn larger.
            strip = edit_strip(replace(look, weights=None), 1.0, width, columns=3)
            yield f"{look.key[:10]}  {look.status}  {told}  {look.instruction}", strip

    print_pictures(strips, choice)
    rows = [one.cells for one in session.drawn]
    table = Table(show_edge=False, pad_edge=False)
    for name, cells in zip(COLUMNS, zip(COLUMNS, *rows, strict=True), strict=True):
        is_text = name in ("pair", "status", "instruction")
        # Where the terminal is narrow the instruction gives way, the figures never.
        least = None if name == "instruction" else max(map(len, cells))
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True, min_width=least)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)
    if all(one.iou is None for one in session.drawn):  # These pairs are seen for the first time.
        for refused in session.refused:
            typer.secho(f"not shown: {refused.name}: {refused.sentence}", err=True, fg=typer.colors.YELLOW)
    session.write_page(reloads=True)
    seconds = time.perf_counter() - start
    typer.echo(f"{session.settings.sentence()}: {len(looks)} pairs, seed {session.seed}, drawn in {seconds:.2f} s")


def _parameters(session: TuneSession) -> None:
    console = Console(highlight=False, markup=False)
    for row in parameter_rows(session.settings):
        is_set = row.name in session.settings.parameters
        console.print(f"{row.name}={row.value}", style="bold" if is_set else "cyan", end="  ")
        console.print("; ".join([f"default {row.default}", *([row.range] if row.range else [])]))
        console.print(Padding(row.doc, (0, 0, 0, 4)))
