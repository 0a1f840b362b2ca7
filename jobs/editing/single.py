"""Editing one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from jobs.editing.choice import ModelChoice
from jobs.editing.formats import OUTPUT_FORMATS, write_image
from jobs.editing.rows import Sizing
from schemas.errors import InputError, RowRejected
from schemas.folders import check_can_be_folder
from schemas.images import decode_image
from unified_model.prompt import edit_messages


def edit_one(
    model: ModelChoice, images: list[Path], instruction: str, output: Path, sizing: Sizing, sampling: dict[str, Any]
) -> None:
    """Edit the images by the instruction into `output`, and say so.

    Raises:
        EditmillError: something is wrong with an option or a file; told before the model is loaded where it can be.
    """
    _check_output(output)
    check_can_be_folder(output.parent, "--output")
    references = [_read_reference(path) for path in images]
    edit_messages(instruction, len(references))
    model.settings()
    pipeline = model.load()
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("denoising", total=sampling["steps"])
        edited = pipeline(
            instruction,
            references,
            sizing.height,
            sizing.width,
            seed=sizing.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **sampling,
        )
    write_image(output, edited)
    told = f"seed {sizing.seed}, {sampling['steps']} steps on {model.where}"
    typer.echo(f"{output}: {edited.shape[1]} x {edited.shape[0]}, {told}")


def _check_output(output: Path) -> None:
    if output.suffix.lower() not in OUTPUT_FORMATS:
        raise InputError("--output", str(output), "must end in .png, .jpg or .webp", "Choose another name.")
    if output.is_dir():
        raise InputError("--output", str(output), "is a folder", "Name a file.")


def _read_reference(path: Path) -> np.ndarray:
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise InputError("--image", str(path), f"cannot be read ({error.strerror})", "Check the path.") from error
    except RowRejected as rejection:
        raise InputError("--image", str(path), rejection.sentence, "Give another image.") from rejection
