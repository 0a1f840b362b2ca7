"""`editmill demo`: the whole path on photographs that come with two packages."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import RunnerKind


def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path("runs/demo"),
    runner: Annotated[RunnerKind, typer.Option(help="Where the data part runs; the shards are the same.")] = (
        RunnerKind.ray
    ),
    workers: Annotated[int, typer.Option(min=1, help="Ray: cores to use.")] = 2,
    train_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of the training run.")] = 240,
    seed: Annotated[int, typer.Option(min=0, help="Of edits, weights, order and noise.")] = 0,
    data_only: Annotated[bool, typer.Option("--data-only", help="Stop after the shards: no training.")] = False,
) -> None:
    """Walk the whole path once: real photographs in, a trained edit out. No GPU, no download.

    A LAION-style table over the photographs inside scikit-image and scikit-learn is filtered, the images kept are
    recaptioned; before/after pairs made from them get edit masks; both are packed into shards; a small model trains on
    them and edits one photograph it has not seen. All models are small, with random weights.

    Writes report.html, contact-sheet.png and everything in between below --output. Run again, it does no finished part
    twice.

    Example:

        editmill demo --runner in_process --output runs/demo
    """
    from schemas.errors import InputError

    missing = [
        name
        for name in ("torch", "transformers", "diffusers", "deepspeed", "skimage", "sklearn")
        if not find_spec(name)
    ]
    if missing:
        raise InputError(
            "installation", missing, "lacks what the demo needs", 'In the clone, run pip install ".[demo]".'
        )

    # Read when tqdm is imported: the libraries' bars over files of a few kilobytes would drown the demo's own.
    os.environ.setdefault("TQDM_DISABLE", "1")

    from rich.console import Console

    from jobs.demo.demo import Demo
    from jobs.demo.plan import DemoPlan

    run = Demo(DemoPlan(output, runner.value, workers, train_steps, seed), Console())
    images, edits = run.run_data_part()
    if not data_only:
        run.run_learning_part(images, edits)
        run.tell_what_next()
