"""`editmill status`: how far is a run?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.commands.options import duration

if TYPE_CHECKING:
    from jobs.run_status import RunStatus

_QUIET_S = 300.0
"""Seconds without an event after which a running run is said to be quiet."""


def status(
    run: Annotated[Path, typer.Argument(help="A run folder, of a run that works, stopped or finished.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")] = False,
    watch: Annotated[
        float | None, typer.Option(min=0.5, help="Look again every so many seconds, until the run ends.")
    ] = None,
) -> None:
    """Say how far a run is: partitions and rows of every step, rejected rows by reason, pace, and the time left.

    Reads manifest.json, log.jsonl and the lock of the run folder, so it may be asked from any machine that sees the
    folder, and disturbs nothing. Exit code 0 where the run works or is finished, 1 where it stopped before its end.

    Example:

        editmill status runs/masked --watch 10
    """
    import json
    import time

    from jobs.run_status import now, read_status

    found = read_status(run)
    while True:
        if as_json:
            typer.echo(json.dumps(found.as_json(now())))
        else:
            _show(found, run)
        if watch is None or found.state != "running":
            break
        time.sleep(watch)
        found = read_status(run)
    if found.state == "stopped":
        raise typer.Exit(1)


def _show(found: RunStatus, run: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from jobs.report.counts import StageCounts, counts_rows
    from jobs.run_status import now

    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("step")
    for name in ("partitions", "rows/s", "in", "kept", "rejected"):
        table.add_column(name, justify="right")
    table.add_column("reasons", overflow="fold")
    for stage in found.stages:
        counts = StageCounts(stage.name, stage.rows_in, stage.kept, dict(stage.rejected))
        name, *rows = counts_rows([counts])[0]
        rate = found.rows_per_second(stage, now())
        pace = "" if rate is None else f"{rate:,.1f}"
        table.add_row(name, f"{stage.partitions:,}/{found.partitions:,}", pace, *rows)
    Console().print(table)
    if found.pack is not None:
        part, done, total = found.pack
        typer.echo(f"pack: {part} {done:,}/{total:,}")
    typer.echo(f"{run}: {_sentence(found)}")


def _sentence(found: RunStatus) -> str:
    from jobs.run_status import now

    if found.state == "finished":
        return "finished"
    if found.state == "stopped":
        why = f": {found.failure.rstrip('.')}" if found.failure else ""
        return f"stopped before its end{why}. Give the same command again: it goes on where it was."
    text = "running"
    if found.began is not None:
        text += f" since {duration((now() - found.began).total_seconds())}"
    left = found.seconds_left(now())
    if left is not None and left > 0:
        text += f", about {duration(left)} left"
    if found.last_event is not None:
        quiet = (now() - found.last_event).total_seconds()
        if quiet > _QUIET_S:
            text += f"; nothing was committed for {duration(quiet)}"
    return text
