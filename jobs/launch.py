"""What the commands share: run a pipeline config with progress, print its counts, choose the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from jobs.build import build_chain
from jobs.chain import over_partitions
from jobs.config import PipelineConfig
from jobs.pipeline import RunReport, run_pipeline
from jobs.places import check_places
from jobs.planning.room import check_room
from jobs.progress import progress_for
from jobs.report.counts import counts_rows
from schemas.config import parse_config

NOTHING_KEPT = 1
"""Exit code of a run that rejected every row."""


def launch(values: Mapping[str, Any], where: str) -> None:
    """Run the pipeline that `values` describe, and say what became of it.

    Args:
        values: keys and values of a `PipelineConfig`.
        where: what they came from, for errors.

    Raises:
        EditmillError: as `run_pipeline`.
        typer.Exit: with code 1, where no row was kept.
    """
    config = parse_config(PipelineConfig, values, where)
    console = Console()
    report = run_pipeline(config, progress_for(Console(stderr=True)), where)
    tell(report, console)
    if report.kept == 0:
        typer.secho(
            f"nothing was kept: every row was rejected; see {report.folder / 'outcomes'}", err=True, fg="yellow"
        )
        raise typer.Exit(NOTHING_KEPT)


def check_only(values: Mapping[str, Any], where: str) -> None:
    """Check a pipeline as a run would before its first row, and say what it would do.

    Raises:
        EditmillError: as `run_pipeline` before a row is read.
    """
    config = parse_config(PipelineConfig, values, where)
    chain = build_chain(config, where)
    check_places(config, chain)
    partitions = chain.plan.source.partitions()
    chain = over_partitions(chain, partitions)
    check_room(config, chain.plan)
    for step in chain.steps:
        step.preflight()
    names = [stage.name for stage in chain.plan.stages] + (["pack"] if config.pack is not None else [])
    typer.echo(f"{where}: good. {len(partitions)} partitions through {' -> '.join(names)}; run folder {config.folder}")


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
    for count in report.counts:
        if count.figures:
            told = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in count.figures.items())
            typer.echo(f"{count.name}: {told}")
    done = f"done in {report.seconds:.1f} s" if report.did_work else "finished before: nothing to do"
    typer.echo(f"{done}; run folder: {report.folder}")
    if report.shards is not None:
        typer.echo(f"shards: {report.shards}")
    for cost in report.costs:
        typer.echo(cost.sentence())
    for one in report.deviations:
        typer.echo(f"plan: {one.sentence()}")
    for met in report.marks:
        typer.secho(met.sentence(), fg="yellow" if met.without_row else None)


def given(value: Any) -> Any:
    """`value` without keys whose value is None, at every depth: options not given leave the config's own defaults."""
    if isinstance(value, Mapping):
        return {key: given(inner) for key, inner in value.items() if inner is not None}
    return [given(inner) for inner in value] if isinstance(value, list) else value


def is_run_folder(path: Path) -> bool:
    """Whether `path` is the folder of a run, not one of input files."""
    return (path / "manifest.json").is_file() and (path / "config.yaml").is_file()
