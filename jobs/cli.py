"""The `editmill` command: one line a subcommand, and one place that turns errors into exit codes.

Exit codes: 0 the job did what it said; 1 it ran and did not (validation found a fault); 2 a wrong call or input, told
in one line; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from jobs.commands.ablate import ablate
from jobs.commands.assemble import assemble
from jobs.commands.cache import cache
from jobs.commands.convert_release import convert_release
from jobs.commands.deduplicate import deduplicate
from jobs.commands.demo import demo
from jobs.commands.edit import edit
from jobs.commands.export import export
from jobs.commands.fetch import fetch
from jobs.commands.filter import filter_metadata
from jobs.commands.judge import judge
from jobs.commands.leakage import leakage
from jobs.commands.masks import masks
from jobs.commands.pack import pack
from jobs.commands.peek import peek
from jobs.commands.plan import plan
from jobs.commands.preview import preview
from jobs.commands.recaption import recaption
from jobs.commands.retry_failed import retry_failed
from jobs.commands.run import run
from jobs.commands.status import status
from jobs.commands.step import step
from jobs.commands.train import train
from jobs.commands.validate import validate
from schemas.errors import EditmillError

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "filter": filter_metadata,
    "fetch": fetch,
    "recaption": recaption,
    "masks": masks,
    "judge": judge,
    "deduplicate": deduplicate,
    "leakage": leakage,
    "step": step,
    "pack": pack,
    "preview": preview,
    "peek": peek,
    "validate": validate,
    "plan": plan,
    "run": run,
    "retry-failed": retry_failed,
    "status": status,
    "assemble": assemble,
    "convert-release": convert_release,
    "cache": cache,
    "train": train,
    "edit": edit,
    "export": export,
    "ablate": ablate,
}
"""Subcommand -> its function, in the order in which `editmill --help` shows them."""

app = typer.Typer(
    name="editmill",
    help="From raw images and before/after pairs to curated, masked editing shards, and to a model trained on them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)


@app.callback()
def _group() -> None:
    # Keeps subcommands subcommands even where only one is registered.
    return


for _name, _function in COMMANDS.items():
    app.command(_name)(_function)


_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Every `EditmillError` becomes one line on standard error and exit code 2."""
    try:
        app()
    except EditmillError as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2)
    except SystemExit as end:
        # Typer turns Ctrl-C into this exit, without a word.
        if end.code == _INTERRUPTED:
            typer.secho("interrupted: what was committed stays; run the same command again to go on", err=True)
        raise
