"""`editmill_model.json`: what a saved folder holds, and by which versions it was made. Imports no torch."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import Field

from schemas.atomic import write_json
from schemas.config import Config, parse_config
from schemas.errors import InputError, SchemaVersionError
from unified_model.prompt import PROMPT_VERSION, PROMPTS

CARD_NAME = "editmill_model.json"
CARD_VERSION = 2

PARTS = ("vlm", "processor", "siglip", "siglip_processor", "conditioner", "transformer", "vae", "scheduler")
"""Subfolders of a whole model."""

OPTIONAL_PARTS = ("clip", "t5")
"""Subfolders that a whole model may hold besides: text encoders, each with its tokenizer."""

CORE_PARTS = ("conditioner", "transformer")
"""Subfolders of what may be trained."""

ADAPTER_PARTS = ("conditioner", "adapter")
"""Subfolders of a trained core whose transformer is that of its base with an adapter (`unified_model.adapters`)."""


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose classes the parts are, without build tags."""
    return {name: version(name).partition("+")[0] for name in ("diffusers", "torch", "transformers")}


class ModelCard(Config):
    """Contents of `editmill_model.json`."""

    format: Literal["editmill_model"] = "editmill_model"
    """Names the file's kind."""

    version: int = Field(default=CARD_VERSION, ge=1)
    """Version of the folder's layout."""

    parts: tuple[str, ...]
    """Subfolders present."""

    base: str | None = None
    """For a folder that holds only some parts: the model that the others come from; of an adapter, the one it was
    trained on. A relative path is relative to the folder."""

    takes_reference_latents: bool = False
    """Whether the denoiser sees the references' latents beside the noisy ones."""

    t5_length: int = Field(default=512, ge=1)
    """Tokens that an instruction is cut or padded to for T5, where there is one."""

    prompt_version: int = PROMPT_VERSION
    """Version of the prompt the model was trained with."""

    libraries: dict[str, str] = Field(default_factory=library_versions)
    """Versions of the libraries that wrote the parts."""


def write_card(folder: Path, card: ModelCard) -> None:
    """Write the card into `folder`. Written last, so that a folder with a card is whole."""
    write_json(folder / CARD_NAME, card.as_json())


def read_card(folder: Path) -> ModelCard:
    """The card of a saved model.

    Raises:
        InputError: no folder, no card, or parts that the card names are missing.
        SchemaVersionError: a newer layout, or another version of the prompt.
        ConfigError: the card holds unknown or wrong values.
    """
    path = folder / CARD_NAME
    if not folder.is_dir():
        raise InputError("model folder", str(folder), "does not exist", "Check the path.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            "model folder", str(folder), f"holds no {CARD_NAME}", "Give a folder that editmill saved."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(str(path), str(error), "must be readable JSON", "Save the model again.") from error
    if not isinstance(values, dict):
        raise InputError(str(path), type(values).__name__, "must hold a mapping", "Save the model again.")
    layout = values.get("version", 1)
    if isinstance(layout, int) and layout > CARD_VERSION:
        raise SchemaVersionError(str(path), layout, f"is newer than version {CARD_VERSION}", "Update editmill.")
    card = parse_config(ModelCard, values, str(path))
    if card.prompt_version not in PROMPTS:
        raise SchemaVersionError(
            f"{path}: prompt_version",
            card.prompt_version,
            f"this editmill builds the prompt versions {sorted(PROMPTS)}",
            "Use the editmill that trained the model.",
        )
    for part in card.parts:
        if not (folder / part).is_dir():
            raise InputError("model folder", str(folder), f"lacks its part '{part}'", "Copy or save it again.")
    return card
