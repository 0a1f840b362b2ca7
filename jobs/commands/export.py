"""`editmill export`: a trained model as a folder for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.edit_options import WeightsChoice


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Model folder, or the export of a training run.")],
    output: Annotated[Path, typer.Option(help="New folder.", show_default=False)],
    weights: Annotated[
        WeightsChoice | None,
        typer.Option(
            help="Which weights of a training export; by default ema, or raw where it has no others.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="The model that the checkpoint belongs to, where the one it names has moved.", show_default=False
        ),
    ] = None,
    release: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the UniWorld-V1 release: write it once more, with this model's weights in it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a trained model as one folder that diffusers and transformers load without editmill.

    A training run's export holds what was trained and names the model it came from; this command puts all parts
    together, LoRA adapters folded into the DiT, with a README.md that shows the lines that load them and edit an image.
    The folder is a whole model: `editmill edit` and `editmill train` take it, too, and it may be moved anywhere.

    With `--release` the folder is what the code of UniWorld-V1 loads: config, tokenizer and names of weights are the
    release's. Give a model without adapters beside it: export those first.

    Example:

        editmill export runs/first/export --output models/first
    """
    from jobs.commands.extras import require_model_libraries

    require_model_libraries()
    from rich.console import Console
    from rich.filesize import decimal

    from unified_model.checkpoint import Weights, checkpoint_folder, lineage_of
    from unified_model.export import export_model
    from unified_model.quiet import quiet_libraries
    from unified_model.release.give_back import write_as_release

    quiet_libraries()
    with Console(stderr=True).status("exporting"):
        chosen: Weights | None = None if weights is None else weights.value
        if release is None:
            folder = export_model(checkpoint, output, chosen, base=base)
        else:
            folder = write_as_release(lineage_of(checkpoint_folder(checkpoint, chosen), base), release, output)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    told = f"; {folder / 'README.md'} shows how to load it" if release is None else ", in the layout of the release"
    typer.echo(f"{output}: {decimal(size)}{told}")
