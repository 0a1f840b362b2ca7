"""`editmill run`: run a pipeline of steps from a config file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import RunnerKind, runner_values


def run(
    config: Annotated[Path, typer.Argument(help="Pipeline config, YAML; see configs/.", show_default=False)],
    output: Annotated[Path | None, typer.Option(help="Run folder, instead of the config's.")] = None,
    runner: Annotated[
        RunnerKind | None, typer.Option(help="Runner, instead of the config's; --workers and --address mean ray.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray: cores to use, instead of the config's.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray: the cluster to join, instead of the config's.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check config, input and models; do nothing.")] = False,
) -> None:
    """Run a pipeline: a source, steps, and shards at the end if the config asks for them.

    Reads a YAML config and the input that it names. Writes a run folder (records/ or shards/, outcomes/ with every
    rejected row, manifest.json, log.jsonl). A run that was killed goes on where it was when the same command is given
    again; a finished one does nothing.

    Example:

        editmill run configs/pipeline-pairs.yaml --workers 2
    """
    from jobs.launch import check_only, launch
    from schemas.config import read_yaml

    values = read_yaml(config)
    if output is not None:
        values["output"] = output
    former = values.get("runner") or {}
    if (runner, workers, address) != (None, None, None) and isinstance(former, dict):
        chosen = {key: value for key, value in runner_values(runner, workers, address).items() if value is not None}
        # Another runner than the config's does not inherit the resources of that one.
        same = former.get("kind", RunnerKind.in_process.value) == chosen["kind"]
        kept = former if same else {key: value for key, value in former.items() if key == "stall_minutes"}
        values["runner"] = {**kept, **chosen}
    if check:
        check_only(values, str(config))
    else:
        launch(values, str(config))
