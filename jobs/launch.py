"""What the commands share: run a pipeline config with progress on the terminal, print its counts, choose the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from jobs.config import PipelineConfig
from jobs.pipeline import RunReport, run_pipeline
from jobs.progress import progress_for
from jobs.report.counts import counts_rows
from schemas.config import parse_config

NOTHING_KEPT = 1
"""Exit code of a run that rejected every row."""


def launch(values: Mapping[str, Any], where: str) -> None:
    """Run the pipeline that `values` describe, and say what became of it.

    Args:
        values: keys and values of a `PipelineConfig`; those that are None are left out.
        where: what they came from, for errors.

    Raises:
        EditmillError: as `run_pipeline`.
        typer.Exit: with code 1, where no row was kept.
    """
    config = parse_config(PipelineConfig, given(values), where)
    console = Console()
    report = run_pipeline(config, progress_for(Console(stderr=True)), where)
    tell(report, console)
    if report.kept == 0:
        typer.secho(
            f"nothing was kept: every row was rejected; see {report.folder / 'outcomes'}", err=True, fg="yellow"
        )
        raise typer.Exit(NOTHING_KEPT)


def tell(report: RunReport, console: Console) -> None:
    """Print the counts of every step, and where things are."""
    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("step")
    for name in ("in", "kept", "rejected"):
        table.add_column(name, justify="right")
    table.add_column("reasons", overflow="fold")
    for row in counts_rows(report.counts):
        table.add_row(*row)
    console.print(table)
    done = f"done in {report.seconds:.1f} s" if report.did_work else "finished before: nothing to do"
    typer.echo(f"{done}; run folder: {report.folder}")
    if report.shards is not None:
        typer.echo(f"shards: {report.shards}")


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without those that are None, at every depth, so that the config's own defaults hold."""
    return {
        key: given(value) if isinstance(value, Mapping) else value for key, value in values.items() if value is not None
    }


def is_run_folder(path: Path) -> bool:
    """Whether `path` is the folder of a run, not one of input files."""
    return (path / "manifest.json").is_file() and (path / "config.yaml").is_file()
