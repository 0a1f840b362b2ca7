"""`editmill retry-failed`: give the rows that a step rejected for passing reasons another try."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, Workers, mapping, runner_values


def retry_failed(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished run.", show_default=False)],
    output: RunFolderOption,
    reasons: Annotated[
        list[str],
        typer.Option(
            "--class", help="Reasons to retry, separated by commas: timeout,dns,http_5*; repeat it.", show_default=False
        ),
    ],
    step: Annotated[str, typer.Option(help="The step that rejected the rows.")] = "fetch",
    settings: Annotated[
        list[str], typer.Option("--set", help="Another value for a key of that step, NAME=VALUE; repeat it.")
    ] = [],  # noqa: B006
    runner: Runner = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Retry exactly the rows that a step of a finished run rejected for the reasons given.

    Reads the run and, once more, its input. Writes another run folder: what became of these rows in that step and those
    after it. The first run stays as it is; `editmill pack RUN RUN2` packs the rows of both.

    Example:

        editmill retry-failed runs/fetched --class timeout,dns,connection --output runs/fetched-again
    """
    from jobs.failed_rows import find_stage
    from jobs.launch import given, launch
    from jobs.run_manifest import finished_run

    manifest = finished_run(run)
    first = find_stage(manifest, step)[-1].position - 1
    [(name, values)], *later = [list(entry.items()) for entry in manifest.config["steps"][first:]]
    steps: list[dict[str, Any]] = [{name: {**values, **mapping("--set", settings)}}]
    steps += [dict(entry) for entry in later]
    classes = [reason.strip() for text in reasons for reason in text.split(",") if reason.strip()]
    pack = manifest.config.get("pack")
    config = {
        "name": f"{manifest.name}-retry",
        "output": output,
        "source": {"failed_rows": {"path": str(run), "step": step, "reasons": classes}},
        "steps": steps,
        # Shards of its own: those of the first run hold other rows.
        "pack": None if pack is None else {**pack, "output": None},
        "runner": given(runner_values(runner, workers, address)),
    }
    launch(config, "editmill retry-failed")
