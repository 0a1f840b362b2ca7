"""`editmill assemble`: a new model folder from published components."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.convert_release import WeightsType


def assemble(
    output: Annotated[Path, typer.Argument(help="Model folder to write; new or empty.")],
    vlm: Annotated[
        str, typer.Option(help="Qwen2.5-VL (3B, 7B, ...), folder or hub name.")
    ] = "Qwen/Qwen2.5-VL-7B-Instruct",
    siglip: Annotated[
        str, typer.Option(help="SigLIP2 vision tower of fixed resolution, folder or hub name.")
    ] = "google/siglip2-so400m-patch16-512",
    flux: Annotated[
        str, typer.Option(help="FLUX.1 in the published layout (dev, schnell, Kontext), folder or hub name.")
    ] = "black-forest-labs/FLUX.1-dev",
    conditioner: Annotated[
        str, typer.Option(help="Kind of the new conditioner; unified_model/conditioners/ holds them.")
    ] = "mlp",
    connector_weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Connectors trained elsewhere, file, folder or file under a hub name; repeat it. FLUX.1-Redux's image "
            "embedder and the release's own files are understood."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the new conditioner's weights.")] = 0,
    text_encoders: Annotated[
        bool,
        typer.Option(
            "--text-encoders/--no-text-encoders", help="Condition on CLIP and T5 too; UniWorld-V1 trains without."
        ),
    ] = False,
    t5_length: Annotated[int, typer.Option(min=1, help="With --text-encoders: tokens of an instruction for T5.")] = 512,
    reference_latents: Annotated[
        bool,
        typer.Option(
            "--reference-latents/--no-reference-latents",
            help="Let the denoiser see the references' latents too, as FLUX.1 Kontext does.",
        ),
    ] = False,
    dtype: Annotated[WeightsType, typer.Option(help="Of the written weights.")] = WeightsType.bfloat16,
) -> None:
    """Put a new model together from published components, as a folder that `train` takes.

    VLM, SigLIP and FLUX keep their weights; the conditioner between them is new. Train the stage `align` first. The
    components pass through memory as a whole (about 42 GB for the default ones), and the folder is as large.

    Examples, the second one as UniWorld-V1 begins its stage 2, the third on FLUX.1 Kontext:

        editmill assemble models/new --vlm Qwen/Qwen2.5-VL-3B-Instruct

        editmill assemble models/new --connector-weights LanguageBind/UniWorld-V1/flux-redux-siglipv2-512.bin

        editmill assemble models/new --flux black-forest-labs/FLUX.1-Kontext-dev --reference-latents
    """
    from schemas.folders import check_can_be_folder, check_holds_only
    from unified_model.extras import require

    require("torch", "transformers", "diffusers")
    check_can_be_folder(output, "OUTPUT")
    check_holds_only(output, "OUTPUT", (), "no assembly")

    from rich.console import Console
    from torch import nn

    from unified_model.new_model import NewModelConfig, build_new_model
    from unified_model.quiet import quiet_libraries

    quiet_libraries()
    config = NewModelConfig(
        vlm=vlm,
        siglip=siglip,
        flux=flux,
        conditioner=conditioner,
        connector_weights=tuple(connector_weights or ()),
        seed=seed,
        text_encoders=text_encoders,
        t5_length=t5_length,
        takes_reference_latents=reference_latents,
        dtype=dtype.value,
    )
    with Console(stderr=True).status("loading the components"):
        model = build_new_model(config)
    with Console(stderr=True).status(f"writing {output}"):
        model.save_pretrained(output)
    counts: dict[str, nn.Module] = {
        "understanding": model.tower,
        "conditioner": model.core.conditioner,
        "denoiser": model.core.denoiser,
        "VAE": model.codec,
        "text encoders": model.text,
    }
    typer.echo(f"{output}: {', '.join(model.parts)}")
    for name, module in counts.items():
        if parameters := sum(value.numel() for value in module.parameters()):
            typer.echo(f"  {name:<14} {parameters:>16,} parameters")
