"""`editmill convert-release`: the released UniWorld-V1 as a model folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unified_model.release.convert import Conversion


class WeightsType(StrEnum):
    """What the written weights are."""

    bfloat16 = "bfloat16"
    float32 = "float32"


def convert_release(
    release: Annotated[str, typer.Argument(help="Folder of the release, or its hub name: LanguageBind/UniWorld-V1.")],
    output: Annotated[Path, typer.Argument(help="Model folder to write; new or empty.")],
    siglip: Annotated[
        str, typer.Option(help="SigLIP2 vision tower, folder or hub name.")
    ] = "google/siglip2-so400m-patch16-512",
    flux: Annotated[
        str, typer.Option(help="FLUX.1, folder or hub name, for VAE, scheduler and text encoders.")
    ] = "black-forest-labs/FLUX.1-dev",
    text_encoders: Annotated[
        bool,
        typer.Option(
            "--text-encoders/--no-text-encoders",
            help="Keep CLIP and T5 in the model, as the release adds them in inference; without them, as in its "
            "training, CLIP's embedding of an empty text is kept only.",
        ),
    ] = False,
    reference_latents: Annotated[
        bool,
        typer.Option(
            "--reference-latents/--no-reference-latents",
            help="Let the denoiser see the references' latents too, as FLUX.1 Kontext does: for training on, since the "
            "release was trained without.",
        ),
    ] = False,
    dtype: Annotated[WeightsType, typer.Option(help="Of the written weights.")] = (WeightsType.bfloat16),
) -> None:
    """Convert the released UniWorld-V1 into a model folder, which `train` and `edit` take.

    The release holds the VLM, both connectors and the denoiser; SigLIP, the VAE and the text encoders come from where
    its own code takes them. Every key goes through one table, unified_model/release/keys.py: keys that it does not
    know, missing ones and other shapes are listed before anything is written. Weights pass through memory 5 GB at a
    time; the folder takes about 42 GB in bfloat16.

    The model hears the release's prompt (version 2), which training on keeps.

    Example:

        editmill convert-release LanguageBind/UniWorld-V1 models/uniworld-v1

        editmill edit --checkpoint models/uniworld-v1 --image photo.jpg --instruction "Make it red" --output red.png
    """
    from unified_model.extras import require

    require("torch", "transformers", "diffusers")

    from rich.console import Console
    from rich.progress import Progress
    from transformers.utils import logging as transformers_logging

    from unified_model.quiet import quiet_libraries
    from unified_model.release.convert import ReleaseConfig
    from unified_model.release.convert import convert_release as convert

    # The libraries would warn of the release's foreign config.json, which is read here with care.
    transformers_logging.set_verbosity_error()
    quiet_libraries()
    config = ReleaseConfig(
        release=release,
        siglip=siglip,
        flux=flux,
        text_encoders=text_encoders,
        takes_reference_latents=reference_latents,
        dtype=dtype.value,
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("converting", total=None)
        done = convert(config, output, lambda elements, total: bar.update(task, completed=elements, total=total))
    _tell(done)


def _tell(done: Conversion) -> None:
    typer.echo(f"{done.folder}: every weight of the release has its place")
    typer.echo(f"  {'part':<12} {'tensors':>8} {'parameters':>16}")
    for part, (tensors, parameters) in done.parts.items():
        typer.echo(f"  {part:<12} {tensors:>8,} {parameters:>16,}")
    for rule, keys in done.unread.items():
        typer.echo(f"  not read: {len(keys)} tensors {rule.prefix}* ({rule.note})")
