"""`editmill fetch`: fetch the images that metadata rows point to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, Workers, mapping, runner_values

_ROWS = 2048


def fetch(
    metadata: Annotated[
        list[str],
        typer.Argument(
            help="A run folder, as editmill filter writes, or Parquet files, folders or globs.", show_default=False
        ),
    ],
    output: RunFolderOption,
    contact: Annotated[
        str | None,
        typer.Option(help="Page or address where sites reach you; stands in the User-Agent. Please give one."),
    ] = None,
    deadline: Annotated[float | None, typer.Option(help="Most seconds for a row, retries included (30).")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at once, in each worker (128).")] = None,
    per_host: Annotated[int | None, typer.Option(help="Requests at once to one host, in each worker (4).")] = None,
    host_interval: Annotated[
        float | None, typer.Option(help="Least seconds between two requests to one host, in each worker (0).")
    ] = None,
    allow_network: Annotated[
        list[str], typer.Option(help="Private network to allow, as 10.0.0.0/8; repeat it. Only public ones by default.")
    ] = [],  # noqa: B006
    rows_per_partition: Annotated[
        int, typer.Option(min=1, help="Rows fetched and committed together; their images are in memory at once.")
    ] = _ROWS,
    settings: Annotated[
        list[str], typer.Option("--set", help="Any other key of the step, NAME=VALUE (see docs/fetch.md); repeat it.")
    ] = [],  # noqa: B006
    runner: Runner = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Fetch the images that metadata rows point to.

    Reads the rows that editmill filter kept, or LAION-style Parquet. Writes a run folder: the rows with their images in
    records/, all others in outcomes/, with the reason (dns, timeout, http_404, robots_txt, opted_out, ...). Honours
    robots.txt and X-Robots-Tag; connects to public addresses only. See also editmill retry-failed.

    Example:

        editmill fetch runs/kept --output runs/fetched --contact https://example.org/crawler
    """
    from jobs.launch import given, launch

    options = {
        "contact": contact,
        "deadline_s": deadline,
        "concurrency": concurrency,
        "per_host": per_host,
        "host_interval_s": host_interval,
        "allow_networks": allow_network or None,
    }
    config = {
        "name": "fetch",
        "output": output,
        "source": _source(metadata, rows_per_partition),
        # What is set is meant, null too: it is a value of some keys.
        "steps": [{"fetch": {**given(options), **mapping("--set", settings)}}],
        "runner": given(runner_values(runner, workers, address)),
    }
    launch(config, "editmill fetch")


def _source(metadata: list[str], rows: int) -> dict[str, dict[str, Any]]:
    """A run's records, or Parquet that can be read in pieces small enough for their images to be held together."""
    from jobs.launch import is_run_folder
    from jobs.registry import make_source
    from schemas.errors import ConfigError, InputError

    runs = [path for path in metadata if is_run_folder(Path(path))]
    if runs:
        if len(metadata) > 1:
            raise ConfigError("metadata", metadata, "must be one run folder, or Parquet files", "Fetch one by one.")
        return {"run_records": {"path": runs[0], "rows_per_partition": rows}}
    source = {"laion_parquet": {"paths": metadata, "rows_per_partition": rows}}
    largest = max(
        make_source("laion_parquet", source["laion_parquet"], "editmill fetch").partitions(),
        key=lambda partition: partition.stop - partition.start,
    )
    if largest.stop - largest.start > 2 * rows:
        raise InputError(
            "metadata",
            largest.path,
            f"has {largest.stop - largest.start} rows that can only be read together, and their images would be, too",
            "Bring it into small pieces first: editmill filter PATH --output RUN, and fetch RUN.",
        )
    return source
