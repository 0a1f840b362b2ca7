"""`editmill fetch`: fetch the images that metadata rows point to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, RunnerKind, Workers, mapping, runner_values

_ROWS = 256
_MOST_ROWS = 4096


def fetch(
    metadata: Annotated[
        list[str],
        typer.Argument(help="A run folder of editmill filter, or Parquet files, folders or globs.", show_default=False),
    ],
    output: RunFolderOption,
    contact: Annotated[
        str | None,
        typer.Option(help="Page or address where sites reach you; stands in the User-Agent. Please give one."),
    ] = None,
    deadline: Annotated[float | None, typer.Option(help="Most seconds for a row, retries included (60).")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at once, in each worker (64).")] = None,
    per_host: Annotated[int | None, typer.Option(help="Requests at once to one host, in each worker (4).")] = None,
    host_interval: Annotated[
        float | None, typer.Option(help="Least seconds between two requests to one host, in each worker (0).")
    ] = None,
    allow_network: Annotated[
        list[str], typer.Option(help="Private network to allow, as 10.0.0.0/8; repeat it. Only public ones by default.")
    ] = [],  # noqa: B006
    settings: Annotated[
        list[str], typer.Option("--set", help="Any other key of the step, NAME=VALUE (see docs/fetch.md); repeat it.")
    ] = [],  # noqa: B006
    runner: Runner = RunnerKind.in_process,
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

    step = {
        "contact": contact,
        "deadline_s": deadline,
        "concurrency": concurrency,
        "per_host": per_host,
        "host_interval_s": host_interval,
        "allow_networks": allow_network or None,
        **mapping("--set", settings),
    }
    config = {
        "name": "fetch",
        "output": output,
        "source": _source(metadata),
        "steps": [{"fetch": {name: value for name, value in step.items() if value is not None}}],
        "runner": given(runner_values(runner, workers, address)),
    }
    launch(config, "editmill fetch")


def _source(metadata: list[str]) -> dict[str, dict[str, Any]]:
    """A run's records, or Parquet whose row groups are small enough for their images to be held together."""
    from jobs.launch import is_run_folder
    from pipelines.parquet_files import find_files, read_footer
    from schemas.errors import ConfigError, InputError

    runs = [path for path in metadata if is_run_folder(Path(path))]
    if runs:
        if len(metadata) > 1:
            raise ConfigError("metadata", metadata, "must be one run folder, or Parquet files", "Fetch one by one.")
        return {"run_records": {"path": runs[0], "rows_per_partition": _ROWS}}
    for file in find_files(metadata):
        footer = read_footer(file.path)
        largest = max((footer.row_group(group).num_rows for group in range(footer.num_row_groups)), default=0)
        if largest > _MOST_ROWS:
            raise InputError(
                "metadata",
                file.path,
                f"has row groups of {largest} rows, and those of one are worked on together; at most {_MOST_ROWS} fit",
                "Bring it into small pieces first: editmill filter PATH --output RUN, and fetch RUN.",
            )
    return {"laion_parquet": {"paths": metadata, "rows_per_partition": _ROWS}}
