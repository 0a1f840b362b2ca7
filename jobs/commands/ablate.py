"""`editmill ablate`: which weighting of the edited region is better, with error bars?"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer


def ablate(
    config: Annotated[Path, typer.Argument(help="YAML file; configs/ablation/ has three.", show_default=False)],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the file, as train.steps=500; repeat it."),
    ] = None,
    only_report: Annotated[
        bool, typer.Option("--report", help="Train nothing: make tables and report of the runs that are done.")
    ] = False,
) -> None:
    """Compare weighting functions: train every arm with every seed, evaluate, and say what can be told apart.

    All arms of a seed share initial weights, order, noise and timesteps; they differ in the weights of the loss alone.
    Data is made by pipelines that the config holds; each run is a plain `editmill train` with a folder of its own.
    Writes `ablation.parquet` (a row for each arm, seed, item and noise level), `edits.parquet`, `tables.md` and
    `report.html`.

    Killed and started again, it goes on where it was; a finished one does nothing but write the report again.

    Example:

        editmill ablate configs/ablation/ablation-cpu.yaml
    """
    from schemas.errors import InputError

    missing = [name for name in ("torch", "transformers", "diffusers", "deepspeed") if find_spec(name) is None]
    if missing:
        raise InputError(
            "installation", missing, "lacks what training needs", 'In the clone, run pip install ".[train]".'
        )
    from rich.console import Console

    from jobs.ablation.ablation import run_ablation
    from jobs.ablation.config import AblationConfig
    from schemas.config import parse_config, read_yaml
    from trainer.config import replace
    from trainer.train import parse_changes

    values = read_yaml(config)
    for key, value in parse_changes(change or []).items():
        replace(values, key, value)
    report = run_ablation(parse_config(AblationConfig, values, str(config)), Console(stderr=True), only_report)
    typer.echo(report.verdict)
    typer.echo(f"report: {report.page}")
