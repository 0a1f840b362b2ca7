"""What kind of folder a checkpoint is, found out before anything heavy is loaded. Imports no torch.

Three kinds are understood:
    a whole model, as `UnifiedEditModel.save_pretrained` writes it;
    a core (`UnifiedEditModel.save_core`): `conditioner/`, `transformer/` and a card naming the model it belongs to;
    an export of a training run: `raw/` and, where the run kept a moving average, `ema/`, each one of the two above.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from schemas.errors import InputError
from unified_model.card import CARD_NAME, CORE_PARTS, PARTS, read_card

Weights = Literal["ema", "raw"]


def checkpoint_folder(path: str | Path, weights: Weights | None = None) -> Path:
    """The folder with a card that `path` stands for: itself, or its `ema/` or `raw/`.

    Args:
        weights: which of the two; None takes `ema/`, or `raw/` where there is no other.

    Raises:
        InputError: there is none.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise InputError("checkpoint", str(path), "does not exist", "Check the path.")
    if (folder / CARD_NAME).is_file():
        return folder
    wanted = ("ema", "raw") if weights is None else (weights,)
    for name in wanted:
        if (folder / name / CARD_NAME).is_file():
            return folder / name
    places = " or ".join(f"{name}/{CARD_NAME}" for name in wanted)
    raise InputError(
        "checkpoint",
        str(path),
        f"holds no {CARD_NAME} and no {places}",
        "Give a model folder, or the export of a training run.",
    )


def whole_model_of(folder: Path, base: str | Path | None = None) -> Path:
    """The whole model behind a folder with a card: the folder itself, or the base that its card names.

    Args:
        base: takes the place of the card's base (the model was moved).

    Raises:
        InputError: the base is not named, does not exist, or is no whole model.
    """
    card = read_card(folder)
    if set(PARTS) <= set(card.parts):
        return folder
    if not set(CORE_PARTS) <= set(card.parts) or (base or card.base) is None:
        raise InputError("checkpoint", str(folder), "is no whole model and names no base", "Give its base model.")
    named = Path(base).expanduser().absolute() if base else folder / Path(str(card.base)).expanduser()
    if not set(PARTS) <= set(read_card(named).parts):
        raise InputError("base model", str(named), "is no whole model", "Give the folder that training started from.")
    return named
