"""`editmill step`: run one step, whichever it is, over rows that stand somewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, Workers, mapping, runner_values


def step(
    name: Annotated[str, typer.Argument(help="Step: aesthetic, pair_bounds, quantile, ...", show_default=False)],
    rows: Annotated[
        Path,
        typer.Argument(
            help="A run folder, a packed folder, pairs as `editmill masks` takes them, or what --source reads.",
            show_default=False,
        ),
    ],
    output: RunFolderOption,
    values: Annotated[
        list[str], typer.Option("--set", help="A key of the step's config, KEY=VALUE; repeat it. Values are YAML.")
    ] = [],  # noqa: B006
    source: Annotated[
        str | None,
        typer.Option(help="Source that reads the rows, where they are no pairs: img2dataset, image_records_parquet."),
    ] = None,
    runner: Runner = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Run one step of a pipeline by its name, with its keys as in a pipeline config.

    Writes a run folder: the rows that the step keeps, with what it adds, in records/; the others, each with the reason,
    in outcomes/.

    Examples:

        editmill step aesthetic runs/fetched --output runs/scored --set head=models/sac+logos+ava1-l14-linearMSE.pth

        editmill step pair_bounds runs/masked --output runs/bounded --set min_side=512 --set max_edited_fraction=0.8
    """
    from jobs.launch import given, launch
    from jobs.registry import step_config_class

    step_config_class(name, "editmill step")
    config = {
        "name": name,
        "output": output,
        "source": _source(rows, source),
        "steps": [{name: mapping("--set", values)}],
        "runner": runner_values(runner, workers, address),
    }
    launch(given(config), f"editmill step {name}")


def _source(rows: Path, named: str | None) -> dict[str, Any]:
    from jobs.pair_source import pair_source
    from jobs.registry import source_config_class

    if named is None:
        return pair_source(rows, {}, None)
    many = "paths" in source_config_class(named, "--source").model_fields
    return {named: {"paths": [str(rows)]} if many else {"path": str(rows)}}
