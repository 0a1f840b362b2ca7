"""`editmill train`: train an editing model on packed shards."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import size_in_bytes


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
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes on this machine, one a GPU; of a dry run, on all nodes. Default: 1; of a dry run, the "
            "config's.",
        ),
    ] = None,
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
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what the run will come to, and whether it fits; train nothing."),
    ] = False,
    nodes: Annotated[int | None, typer.Option(min=1, help="Dry run: machines that share the processes.")] = None,
    device_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Dry run: memory of one GPU, as 80GiB. Default: that of the config's GPU."),
    ] = None,
) -> None:
    """Train an editing model on packed shards, with a loss that weighs the edited region.

    Reads a model folder and packed folders (`editmill pack`). Writes a run folder: `log.jsonl` (one line a step),
    `tensorboard/`, `checkpoints/`, `skipped.jsonl` (samples that could not be used), where the config asks for it
    `validation/` (held-out losses and edited strips), and at the end `report.html` and `export/`, which
    `editmill edit --checkpoint` takes.

    Killed at any moment and started again, it goes on from the last complete checkpoint with the same losses, also with
    another number of processes. SIGTERM, SIGUSR1 or a file `stop` in the run folder save first and end it with 0. A
    finished run does nothing. Exit code 1: the loss was not finite, or too many samples were bad.

    `--dry-run` needs no GPU, no weights and no other machine: it resolves config, stage and data, counts the FLOPs of a
    step, estimates the memory of each process, and says what to change where it does not fit. It exits with 1 then.

    On several machines: `--ray`, or `torchrun --nnodes 2 --nproc-per-node 8 ... -m trainer.train CONFIG.yaml`, or the
    deepspeed launcher, or Slurm; see docs/training.md.

    Example:

        editmill train configs/train/edit-8xh100.yaml --set output=runs/first --set steps=2000 --processes 8

        editmill train configs/train/edit-8xh100.yaml --dry-run --processes 64 --nodes 8
    """
    from schemas.errors import ConfigError, InputError

    missing = [name for name in ("torch", "transformers", "diffusers", "deepspeed") if find_spec(name) is None]
    if missing:
        raise InputError(
            "installation", missing, "lacks what training needs", 'In the clone, run pip install ".[train]".'
        )

    from trainer.config import load_train_config
    from trainer.launch import launch
    from trainer.train import main, parse_changes

    changes = change or []
    resolved = load_train_config(config, parse_changes(changes))
    if dry_run:
        from jobs.planning.dry_run import show_dry_run

        room = None if device_memory is None else size_in_bytes("--device-memory", device_memory)
        if not show_dry_run(resolved, str(config), processes, nodes, room):
            raise typer.Exit(1)
        return
    for option, value in (("--nodes", nodes), ("--device-memory", device_memory)):
        if value is not None:
            raise ConfigError(option, value, "belongs to a dry run", "Add --dry-run.")
    if not on_ray and (workers is not None or address is not None):
        raise ConfigError("--workers and --address", workers or address, "belong to --ray", "Add --ray, or drop them.")
    if on_ray and processes is not None:
        raise ConfigError("--processes", processes, "are the workers of --ray", "Say --workers.")
    if on_ray:
        from jobs.train_on_ray import OnRay, train_on_ray

        raise typer.Exit(train_on_ray(config, changes, OnRay(workers, address, max_failures), restart))
    arguments = [str(config), *(f"--set={item}" for item in changes), *(["--restart"] if restart else [])]
    code = main(arguments) if (processes or 1) == 1 else launch(arguments, processes or 1)
    if code:
        raise typer.Exit(code)
