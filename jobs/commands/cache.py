"""`editmill cache`: store what the frozen parts of a model make of packed samples."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import Address, Runner, Workers, duration, runner_values


class Number(StrEnum):
    """A type of numbers."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class Buckets(StrEnum):
    """How sizes are chosen."""

    aspect = "aspect"
    square = "square"


def cache(
    packed: Annotated[Path, typer.Argument(help="Packed folder, as editmill pack writes it.", show_default=False)],
    model: Annotated[str, typer.Option(help="Folder of the model that will be trained.", show_default=False)],
    resolution: Annotated[int, typer.Option(help="data.resolution of the runs that will use it.")] = 512,
    buckets: Annotated[Buckets, typer.Option(help="data.buckets of those runs.")] = Buckets.aspect,
    compute: Annotated[Number, typer.Option(help="engine.dtype of those runs.")] = Number.bfloat16,
    stored: Annotated[Number, typer.Option(help="Type that is stored; float32 loses nothing.")] = Number.bfloat16,
    features: Annotated[
        bool, typer.Option("--features", help="Store the features of the VLM and of SigLIP, too: megabytes a sample.")
    ] = False,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Features also for prompts without text or images, for data.drop.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that are encoded together.")] = 8,
    device: Annotated[str, typer.Option(help="A torch device; auto takes a GPU where there is one.")] = "auto",
    runner: Runner = None,
    workers: Workers = None,
    address: Address = None,
    gpus_per_worker: Annotated[float | None, typer.Option(min=0, help="Ray: GPUs of each worker.")] = None,
) -> None:
    """Store the latents of packed samples, and by choice the towers' features, beside the shards.

    Writes PACKED.cache/; training finds it there, takes what is of its own model and sizes, and says so. Shards are
    committed one by one: a run that was killed goes on where it was when the same command is given again.

    Example:

        editmill cache runs/curate/shards --model models/edit --resolution 512 --runner ray --gpus-per-worker 1
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from jobs.caching.config import CacheConfig
    from jobs.caching.job import cache as make_cache
    from schemas.config import parse_config

    where = {**runner_values(runner, workers, address), "gpus_per_model": gpus_per_worker}
    values = {
        "packed": packed,
        "model": model,
        "resolution": resolution,
        "buckets": buckets.value,
        "compute": compute.value,
        "stored": stored.value,
        "features": features,
        "dropped": dropped,
        "batch_size": batch_size,
        "device": device,
        "runner": {name: value for name, value in where.items() if value is not None},
    }
    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("shards", total=None)
        report = make_cache(
            parse_config(CacheConfig, values, "editmill cache"),
            lambda done, shards: bar.update(task, completed=done, total=shards),
        )
    card = report.card
    left = ", ".join(f"{reason} {count:,}" for reason, count in card.rejected.items())
    typer.echo(
        f"{card.stored:,} of {card.samples:,} samples, {report.bytes / 2**20:,.1f} MiB"
        + (f"; not: {left}" if left else "")
    )
    shards = f"{report.done_now:,} of {len(card.shards):,} shards now"
    typer.echo(f"done in {duration(report.seconds)}, {shards}" if report.done_now else "finished before: nothing to do")
    typer.echo(f"cache: {report.folder}")
