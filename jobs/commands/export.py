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
) -> None:
    """Write a trained model as one folder that diffusers and transformers load without editmill.

    A training run's export holds what was trained and names the model it came from; this command puts all parts
    together, LoRA adapters folded into the DiT, with a README.md that shows the lines that load them and edit an image.
    The folder is a whole model: `editmill edit` and `editmill train` take it, too, and it may be moved anywhere.

    Example:

        editmill export runs/first/export --output models/first
    """
    from jobs.commands.extras import require_model_libraries

    require_model_libraries()
    from diffusers.utils import logging as diffusers_logging
    from rich.console import Console
    from rich.filesize import decimal

    from unified_model.export import export_model

    diffusers_logging.disable_progress_bar()
    with Console(stderr=True).status("exporting"):
        folder = export_model(checkpoint, output, None if weights is None else weights.value, base=base)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    typer.echo(f"{output}: {decimal(size)}; {folder / 'README.md'} shows how to load it")
