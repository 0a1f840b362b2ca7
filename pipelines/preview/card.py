"""One sample as it is looked at: its text, its facts and its panels, whatever page they are then laid out on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.preview.overlay import MASK_COLOUR, mask_over
from pipelines.preview.picture import Colour, Picture, fit, montage, resize_to, shrink_mask
from pipelines.preview.weight_view import WeightView, colour_weights, weight_colour

PANEL_SIDE = 640
"""Longest side of a panel's picture, in pixels, on a page of few samples."""
_LEAST_SIDE = 256
_FULL_SIZE_COUNT = 100
_GAP_COLOUR: Colour = (236, 236, 232)


@dataclass(frozen=True)
class Panel:
    """One picture of a card.

    Args:
        title: what it shows; cards of one page have the same ones in the same order, some only the first few.
        picture: (H, W, 3) uint8.
        legend: swatches and what they mean.
        is_grid: each pixel is a cell with a meaning, so it is enlarged without blending.
    """

    title: str
    picture: Picture
    legend: tuple[tuple[Colour, str], ...] = ()
    is_grid: bool = False


@dataclass(frozen=True)
class Pair:
    """What a page lets one compare: a target with each of its references, the edited region over both.

    Args:
        references: at least one; of any size.
        target: a picture.
        mask: (H, W) bool of the target's size, True = edited; None where there is none.
    """

    references: tuple[Picture, ...]
    target: Picture
    mask: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Card:
    """One sample.

    Args:
        key: the sample's key.
        text: the instruction, or the caption.
        status: mask status, or None where there is no mask.
        fraction: edited fraction in 0..1, or None.
        facts: further (name, value) pairs, in the order in which they are shown.
        panels: at least one.
        steps: how the mask came about, a panel a step in their order; empty where that is not known.
        confidence: of the mask, in 0..1, or None.
        weight: w of the edited region, or None.
        source, edit_type: as the record has them; what a page filters by.
        recipe: name of the mask recipe, or None.
        pair: the pictures that a slider compares; None where there is nothing to compare.
    """

    key: str
    text: str
    status: str | None
    fraction: float | None
    facts: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]
    steps: tuple[Panel, ...] = ()
    confidence: float | None = None
    weight: float | None = None
    source: str | None = None
    edit_type: str | None = None
    recipe: str | None = None
    pair: Pair | None = None

    @property
    def short_key(self) -> str:
        """The first ten digits of the key: enough to find it in the index."""
        return self.key[:10]


@dataclass(frozen=True)
class EditLook:
    """An edit sample, already small enough to hold many: made once, before the page's weight scale is known.

    Args:
        references, target: pictures, no side longer than `PANEL_SIDE`.
        status: of the mask; where the pair can have none, the reason, and `fraction`, `mask`, `weights` are None.
        mask: (H, W) bool of the shrunken target's size.
        weights: of the full-resolution mask; None where it is smaller than one latent cell.
        steps: how the mask came about; empty where that is not known.
        confidence, source, edit_type, recipe: as `Card` has them.
    """

    key: str
    instruction: str
    status: str
    fraction: float | None
    facts: tuple[tuple[str, str], ...]
    references: tuple[Picture, ...]
    target: Picture
    mask: npt.NDArray[np.bool_] | None
    weights: WeightView | None
    steps: tuple[Panel, ...] = ()
    confidence: float | None = None
    source: str | None = None
    edit_type: str | None = None
    recipe: str | None = None


def panel_side(count: int) -> int:
    """Longest side of the panels of a page of `count` samples: the more there are, the smaller each, so that the memory
    and the page that they take stay bounded."""
    return max(_LEAST_SIDE, round(PANEL_SIDE * math.sqrt(min(1.0, _FULL_SIZE_COUNT / max(1, count)))))


def shrink_pair(
    target: Picture, mask: npt.NDArray[np.bool_], side: int = PANEL_SIDE
) -> tuple[Picture, npt.NDArray[np.bool_]]:
    """Target and mask at one size, no side longer than `side`; a mask of another size is brought to the target's.

    A pixel of the shrunken mask is edited where any pixel under it is.
    """
    small = fit(target, side, side, enlarge=False)
    height, width = small.shape[:2]
    if mask.shape[0] >= height and mask.shape[1] >= width:
        return small, shrink_mask(mask, height, width)
    grey = np.repeat(mask[..., np.newaxis].astype(np.uint8) * 255, 3, axis=2)
    return small, np.asarray(resize_to(grey, height, width)[..., 0] >= 128, np.bool_)


def weight_top(looks: Sequence[EditLook]) -> float:
    """The greatest weight of a page: the bright end of its colour scale. At least 1."""
    return max((look.weights.edited_weight for look in looks if look.weights is not None), default=1.0)


def edit_card(look: EditLook, top: float) -> Card:
    """reference | target | mask over target | weight map; and beside them the mask's steps.

    Args:
        top: the page's greatest weight (`weight_top`), so that colours compare between cards.
    """
    height, width = look.target.shape[:2]
    references = [fit(item, PANEL_SIDE, PANEL_SIDE, enlarge=False) for item in look.references]
    shown = references[0] if len(references) == 1 else montage(references, height, width, 4, _GAP_COLOUR)
    panels = [Panel("reference" if len(references) == 1 else "references", shown), Panel("target", look.target)]
    facts = list(look.facts)
    weight = None
    if look.mask is not None:
        share = "" if look.fraction is None else f"{percent(look.fraction)} edited"
        panels.append(Panel("mask over target", mask_over(look.target, look.mask), ((MASK_COLOUR, share),)))
        if look.weights is None:
            facts.insert(0, ("w", "none: smaller than one latent cell"))
    if look.weights is not None:
        weight = look.weights.edited_weight
        facts.insert(0, ("w", f"{weight:.2f}" if look.weights.cell_fraction else "1.00 (nothing to weigh)"))
        panels.append(Panel("weight map", colour_weights(look.weights.weights, top), _legend(look.weights, top), True))
    return Card(
        look.key,
        look.instruction,
        look.status,
        look.fraction,
        tuple(facts),
        tuple(panels),
        look.steps,
        look.confidence,
        weight,
        look.source,
        look.edit_type,
        look.recipe,
        Pair(look.references, look.target, look.mask),
    )


def image_card(
    key: str, caption: str, facts: tuple[tuple[str, str], ...], picture: Picture, source: str | None = None
) -> Card:
    """A captioned image of an image-caption shard."""
    panel = Panel("image", fit(picture, PANEL_SIDE, PANEL_SIDE, enlarge=False))
    return Card(key, caption, None, None, facts, (panel,), source=source)


def percent(fraction: float) -> str:
    """A share for people: three significant digits under 10 %, never "0 %" for something."""
    value = fraction * 100
    if value in (0.0, 100.0):
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 10 else f"{value:.3g} %"


def _legend(weights: WeightView, top: float) -> tuple[tuple[Colour, str], ...]:
    edited = (weight_colour(weights.edited_weight, top), f"w = {weights.edited_weight:.2f} edited")
    elsewhere = (weight_colour(1.0, top), "1.00 elsewhere")
    if weights.cell_fraction == 0.0:
        return ((weight_colour(1.0, top), "w = 1.00 everywhere"),)
    return (edited,) if weights.cell_fraction == 1.0 else (edited, elsewhere)
