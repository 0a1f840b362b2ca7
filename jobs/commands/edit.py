"""`editmill edit`: edit an image with a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from unified_model.checkpoint import Weights

OUTPUT_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Suffix of the output -> Pillow's name of the format."""

SIDE_MULTIPLE = 16
"""The VAE's stride of 8 times the denoiser's patch of 2. The pipeline checks again, with the loaded model's own."""


class WeightsChoice(StrEnum):
    """Which weights of a training export to take."""

    ema = "ema"
    raw = "raw"


def edit(
    checkpoint: Annotated[
        Path, typer.Option(help="Model folder, or the export of a training run.", show_default=False)
    ],
    image: Annotated[
        list[Path], typer.Option(help="Reference image; repeat it for several, in order.", show_default=False)
    ],
    instruction: Annotated[str, typer.Option(help="What to change.", show_default=False)],
    output: Annotated[
        Path, typer.Option(help="Where to write the edited image: .png, .jpg or .webp.", show_default=False)
    ],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the starting noise; the same seed, the same image.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 28,
    width: Annotated[
        int | None, typer.Option(min=16, help="Width of the result, a multiple of 16; by default the reference's.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=16, help="Height of the result, a multiple of 16; by default the reference's.")
    ] = None,
    guidance: Annotated[float, typer.Option(min=0.0, help="Guidance, for a denoiser that embeds it.")] = 3.5,
    weights: Annotated[
        WeightsChoice | None,
        typer.Option(help="Which weights of a training export; by default ema, or raw where it has no others."),
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Base model folder, where the one that the checkpoint names has moved.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.")] = "auto",
) -> None:
    """Edit an image with a model, by an instruction in words.

    Reads a model folder (or the export of a training run) and one or more reference images; EXIF orientation is
    applied. Writes one image. On a GPU the model runs in bf16, on a CPU in float32.

    Example:

        editmill edit --checkpoint runs/first/export --image photo.jpg --instruction "Make the car red" --output red.png
    """
    from schemas.folders import check_can_be_folder
    from unified_model.checkpoint import checkpoint_folder, whole_model_of
    from unified_model.prompt import edit_messages

    _require_extra()
    save_as = _output_format(output)
    _check_side("--width", width)
    _check_side("--height", height)
    check_can_be_folder(output.parent, "--output")
    references = [_read_reference(path) for path in image]
    edit_messages(instruction, len(references))
    chosen: Weights | None = None if weights is None else weights.value
    whole_model_of(checkpoint_folder(checkpoint, chosen), base)
    _quiet_libraries()

    import torch
    from rich.console import Console
    from rich.progress import Progress

    from unified_model.pipeline import UnifiedEditPipeline

    where = _device(device)
    dtype = torch.float32 if where == "cpu" else torch.bfloat16
    console = Console(stderr=True)
    with console.status("loading the model"):
        pipeline = UnifiedEditPipeline.from_pretrained(checkpoint, weights=chosen, base=base, dtype=dtype, device=where)
    with Progress(console=console) as bar:
        task = bar.add_task("denoising", total=steps)
        edited = pipeline(
            instruction,
            references,
            height=height,
            width=width,
            steps=steps,
            seed=seed,
            guidance=guidance,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _write(output, edited, save_as)
    typer.echo(f"{output}: {edited.shape[1]} x {edited.shape[0]}, seed {seed}, {steps} steps on {where}")


def _require_extra() -> None:
    from importlib.util import find_spec

    from schemas.errors import InputError

    missing = [name for name in ("torch", "transformers", "diffusers") if find_spec(name) is None]
    if missing:
        raise InputError(
            "installation", missing, "lacks what the model needs", 'In the clone, run pip install ".[train]".'
        )


def _output_format(output: Path) -> str:
    from schemas.errors import InputError

    if output.suffix.lower() not in OUTPUT_FORMATS:
        raise InputError("--output", str(output), "must end in .png, .jpg or .webp", "Choose another name.")
    if output.is_dir():
        raise InputError("--output", str(output), "is a folder", "Name a file.")
    return OUTPUT_FORMATS[output.suffix.lower()]


def _check_side(option: str, side: int | None) -> None:
    from schemas.errors import ConfigError

    if side is not None and side % SIDE_MULTIPLE:
        near = max(1, round(side / SIDE_MULTIPLE)) * SIDE_MULTIPLE
        raise ConfigError(option, side, f"must be a multiple of {SIDE_MULTIPLE}", f"Say {near}.")


def _read_reference(path: Path) -> np.ndarray:
    from schemas.errors import InputError, RowRejected
    from schemas.images import decode_image

    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise InputError("--image", str(path), f"cannot be read ({error.strerror})", "Check the path.") from error
    except RowRejected as rejection:
        raise InputError("--image", str(path), rejection.sentence, "Give another image.") from rejection


def _device(wanted: str) -> str:
    import torch

    from schemas.errors import ConfigError

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError("--device", wanted, "is no device", "Say cpu, cuda or cuda:N.") from error
    usable = device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    if not usable:
        raise ConfigError("--device", wanted, "is not there on this machine", "Leave --device out, or say cpu.")
    return wanted


def _quiet_libraries() -> None:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()


def _write(output: Path, edited: np.ndarray, save_as: str) -> None:
    import io

    from PIL import Image

    from schemas.atomic import write_bytes

    encoded = io.BytesIO()
    options = {"quality": 95} if save_as != "PNG" else {}
    Image.fromarray(edited).save(encoded, format=save_as, **options)
    write_bytes(output, encoded.getvalue())
