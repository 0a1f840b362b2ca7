"""Editing a list of images, or packed samples, into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.editing.batch import Options, Tally, edit_batch
from jobs.editing.choice import ModelChoice
from jobs.editing.listed import ListedRows
from jobs.editing.packed import PackedRows
from jobs.editing.record import OUTCOMES, BatchRecord
from jobs.editing.rows import EditRows, Sizing
from schemas.folders import check_can_be_folder
from unified_model.requests import MAX_PIXELS


def edit_many(
    model: ModelChoice,
    listed: Path | None,
    shards: Path | None,
    output: Path,
    sizing: Sizing,
    sampling: dict[str, Any],
    batch_size: int,
    limit: int | None,
) -> None:
    """Edit every row of a list or of packed shards into the folder `output`, and say what became of them.

    Args:
        listed, shards: one of the two.

    Raises:
        EditmillError: something is wrong with an option or a file; never for a single row.
        typer.Exit: 1, where no row could be edited.
    """
    check_can_be_folder(output, "--output")
    rows: EditRows = PackedRows(Path(str(shards))) if listed is None else ListedRows(listed)
    sampling = sampling | {"max_pixels": MAX_PIXELS}
    record = BatchRecord(output, model.settings() | sampling | vars(sizing))
    options = Options(sampling, sizing, batch_size, limit)
    pipeline = model.load()
    columns = (
        TextColumn("editing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=min(len(rows), limit or len(rows)))

        def show(tally: Tally) -> None:
            told = f"{tally.rejected} rejected" if tally.rejected else ""
            bar.update(task, completed=tally.edited + tally.rejected, description=told)

        tally = edit_batch(pipeline, rows, output, record, options, show)
    before = f" ({tally.before} of them before)" if tally.before else ""
    total = tally.edited + tally.rejected
    typer.echo(f"{output}: {total} rows = {tally.edited} edited{before} + {tally.rejected} rejected")
    for reason, count in sorted(tally.reasons.items()):
        typer.echo(f"  {count} {reason}")
    if tally.rejected:
        typer.echo(f"  each is told in {output / OUTCOMES}")
    if not tally.edited:
        raise typer.Exit(1)
