"""`editmill train`: train an editing model on packed shards."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="YAML file; configs/train/edit-8xh100.yaml explains every key.")],
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Replace a value of the file, for example ema.decay=0.99; repeat it.",
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes on this machine, one a GPU.")] = 1,
    on_ray: Annotated[
        bool, typer.Option("--ray", help="Take workers of a Ray cluster, on any number of nodes, for processes.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="With --ray: processes in all; by default one for each GPU of the cluster."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="With --ray: the cluster to join, as 'auto'; by default one on this machine.")
    ] = None,
    max_failures: Annotated[
        int, typer.Option(min=0, help="With --ray: how often to go on from the last checkpoint when workers are lost.")
    ] = 3,
    restart: Annotated[
        bool,
        typer.Option("--restart/--resume", help="Start over, deleting what the run's folder holds; or go on."),
    ] = False,
) -> None:
    """Train an editing model on packed shards, with a loss that weighs the edited region.

    Reads a model folder and packed folders (`editmill pack`). Writes a run folder: `log.jsonl` (one line a step),
    `tensorboard/`, `checkpoints/`, `skipped.jsonl` (samples that could not be used), where the config asks for it
    `validation/` (held-out losses and edited strips), and at the end `report.html` and `export/`, which
    `editmill edit --checkpoint` takes.

    Killed at any moment and started again, it goes on from the last complete checkpoint with the same losses, also with
    another number of processes. SIGTERM, SIGUSR1 or a file `stop` in the run folder save first and end it with 0. A
    finished run does nothing. Exit code 1: the loss was not finite, or too many samples were bad.

    On several machines: `--ray`, or `torchrun --nnodes 2 --nproc-per-node 8 ... -m trainer.train CONFIG.yaml`, or the
    deepspeed launcher, or Slurm; see docs/training.md.

    Example:

        editmill train configs/train/edit-8xh100.yaml --set output=runs/first --set steps=2000 --processes 8
    """
    from schemas.errors import InputError

    missing = [name for name in ("torch", "transformers", "diffusers", "deepspeed") if find_spec(name) is None]
    if missing:
        raise InputError(
            "installation", missing, "lacks what training needs", 'In the clone, run pip install ".[train]".'
        )

    from trainer.config import load_train_config
    from trainer.launch import launch
    from trainer.train import main, parse_changes

    changes = change or []
    load_train_config(config, parse_changes(changes))
    if on_ray:
        from jobs.train_on_ray import OnRay, train_on_ray

        raise typer.Exit(train_on_ray(config, changes, OnRay(workers, address, max_failures), restart))
    arguments = [str(config), *(f"--set={item}" for item in changes), *(["--restart"] if restart else [])]
    code = main(arguments) if processes == 1 else launch(arguments, processes)
    if code:
        raise typer.Exit(code)
