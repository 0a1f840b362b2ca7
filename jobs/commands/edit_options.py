"""Options of `editmill edit`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_ONE = "One image"
_MANY = "Many images"
_RESULT = "The result"
_MODEL = "The model, and where it runs"


class WeightsChoice(StrEnum):
    """Which weights of a training export to take."""

    ema = "ema"
    raw = "raw"


class OffloadChoice(StrEnum):
    """What waits in the machine's memory while it does not compute."""

    none = "none"
    parts = "parts"
    blocks = "blocks"


class BitsChoice(StrEnum):
    """Bits of frozen weights."""

    none = "none"
    eight = "8bit"
    four = "4bit"


Checkpoint = Annotated[Path, typer.Option(help="Model folder, or the export of a training run.", show_default=False)]
Output = Annotated[
    Path, typer.Option(help="The edited image (.png, .jpg or .webp); of many images the folder.", show_default=False)
]
Image = Annotated[
    list[Path] | None,
    typer.Option(
        help="Reference image; repeat it for several, in order. Without one, an image is made from words alone.",
        show_default=False,
        rich_help_panel=_ONE,
    ),
]
Instruction = Annotated[str | None, typer.Option(help="What to change.", show_default=False, rich_help_panel=_ONE)]
Batch = Annotated[
    Path | None,
    typer.Option(
        help='JSONL, one edit a line: {"image": "a.jpg", "instruction": "..."}; image may be a list; output, seed, '
        "width and height may stand there too. Images are named relative to the list.",
        show_default=False,
        rich_help_panel=_MANY,
    ),
]
Shards = Annotated[
    Path | None,
    typer.Option(
        help="Packed folder: edit the references of every sample by its instruction.",
        show_default=False,
        rich_help_panel=_MANY,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images of one size that are made at once.", rich_help_panel=_MANY)]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Take so many rows from the front.", show_default=False, rich_help_panel=_MANY),
]
Seed = Annotated[
    int,
    typer.Option(min=0, help="Seed of the starting noise; the same seed, the same image.", rich_help_panel=_RESULT),
]
Steps = Annotated[int, typer.Option(min=1, help="Denoising steps.", rich_help_panel=_RESULT)]
Width = Annotated[
    int | None,
    typer.Option(min=16, help="Width, a multiple of 16; by default the first reference's.", rich_help_panel=_RESULT),
]
Height = Annotated[
    int | None,
    typer.Option(min=16, help="Height, a multiple of 16; by default the first reference's.", rich_help_panel=_RESULT),
]
Guidance = Annotated[
    float,
    typer.Option(min=0.0, help="Distilled guidance, where the DiT embeds it.", rich_help_panel=_RESULT),
]
TextGuidance = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="How hard to follow the words: 1 is the model itself, 2 to 7 exaggerate. Costs a second pass a step, and "
        "needs a model trained with dropped instructions.",
        rich_help_panel=_RESULT,
    ),
]
ImageGuidance = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="How hard to keep to the references: 1 is the model itself. Costs a pass more, and needs a model trained "
        "with dropped references.",
        rich_help_panel=_RESULT,
    ),
]
Weights = Annotated[
    WeightsChoice | None,
    typer.Option(
        help="Which weights of a training export; by default ema, or raw where it has no others.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Base = Annotated[
    Path | None,
    typer.Option(
        help="The model that the checkpoint belongs to, where the one it names has moved.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.", rich_help_panel=_MODEL)
]
OffloadOption = Annotated[
    OffloadChoice,
    typer.Option(
        help="parts: towers, DiT and VAE are on the GPU only while they compute. blocks: so are the DiT's blocks, one "
        "by one; slower, for a 24 GB card.",
        rich_help_panel=_MODEL,
    ),
]
QuantiseVlm = Annotated[
    BitsChoice,
    typer.Option(help="The vision-language model in 8 or 4 bits (bitsandbytes).", rich_help_panel=_MODEL),
]
QuantiseDit = Annotated[
    BitsChoice, typer.Option(help="The DiT in 8 or 4 bits (bitsandbytes, on a GPU).", rich_help_panel=_MODEL)
]
