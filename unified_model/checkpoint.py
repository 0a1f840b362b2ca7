"""What kind of folder a checkpoint is, found out before anything heavy is loaded. Imports no torch.

Four kinds are understood:
    a whole model, as `UnifiedEditModel.save_pretrained` writes it;
    a core (`UnifiedEditModel.save_core`): `conditioner/`, `transformer/` and a card naming the model it belongs to;
    an adapter: `conditioner/`, `adapter/` and a card naming the model, or the core, whose transformer it changes;
    an export of a training run: `raw/` and, where the run kept a moving average, `ema/`, each one of those above.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from schemas.errors import InputError
from unified_model.card import ADAPTER_PARTS, CARD_NAME, CORE_PARTS, PARTS, read_card

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


@dataclass(frozen=True)
class Lineage:
    """Where the parts of a checkpoint lie.

    Args:
        whole: the whole model, which the frozen towers come from.
        conditioner: the folder that holds `conditioner/`.
        transformer: the folder that holds `transformer/`.
        adapters: folders that hold `adapter/`, in the order in which they are folded into the transformer.
    """

    whole: Path
    conditioner: Path
    transformer: Path
    adapters: tuple[Path, ...] = ()


def lineage_of(folder: Path, base: str | Path | None = None) -> Lineage:
    """Follow the cards from a folder with a card to the whole model behind it.

    Args:
        base: takes the place of the base that the folder's own card names (the model was moved).

    Raises:
        InputError: a base is not named, does not exist, or lacks parts.
    """
    card = read_card(folder)
    held = set(card.parts)
    if set(PARTS) <= held:
        return Lineage(folder, folder, folder)
    if not (set(CORE_PARTS) <= held or set(ADAPTER_PARTS) <= held) or (base or card.base) is None:
        raise InputError("checkpoint", str(folder), "is no whole model and names no base", "Give its base model.")
    named = Path(base).expanduser().absolute() if base else folder / Path(str(card.base)).expanduser()
    if set(CORE_PARTS) <= held:
        if not set(PARTS) <= set(read_card(named).parts):
            raise InputError(
                "base model", str(named), "is no whole model", "Give the folder that training started from."
            )
        return Lineage(named, folder, folder)
    before = lineage_of(checkpoint_folder(named))
    return replace(before, conditioner=folder, adapters=(*before.adapters, folder))


def whole_model_of(folder: Path, base: str | Path | None = None) -> Path:
    """The whole model behind a folder with a card: the folder itself, or what its card's base leads to.

    Raises:
        InputError: as `lineage_of`.
    """
    return lineage_of(folder, base).whole
