"""How a mask came about, as pictures: the difference after normalisation, then the mask after each of the four steps.

For a stored mask the steps are run again with the recipe and the parameters that its record names; they are shown only
where that gives the very mask that is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Pixels
from pipelines.masks.recipe import MaskResult
from pipelines.masks.registry import RECIPES
from pipelines.masks.robust.working import enlarge_by
from pipelines.masks.step import EditMasks, EditMasksConfig
from pipelines.preview.card import PANEL_SIDE, Panel, percent
from pipelines.preview.overlay import BACKGROUND, DROPPED, GAINED, KEPT, heat_colour, heat_map, trace
from pipelines.preview.picture import Colour, Picture, fitted_size, shrink_bright
from schemas.config import parse_config
from schemas.errors import ConfigError, RowRejected
from schemas.images import HARD_MAX_PIXELS, decode_image
from schemas.masks import edited_fraction, max_pool

_Bools = npt.NDArray[np.bool_]
_HEAT_LEGEND: tuple[tuple[Colour, str], ...] = ((heat_colour(0), "equal"), (heat_colour(255), "far apart"))


@dataclass(frozen=True)
class Retrace:
    """A stored sample's pair, and the steps that led to its mask where they could be repeated.

    Args:
        references, target: (H, W, 3) uint8; references are of the target's size where the steps could be repeated.
        result: of the repeated steps, its mask the stored one; None where they could not be repeated.
        why_not: a sentence where `result` is None.
    """

    references: tuple[Pixels, ...]
    target: Pixels
    result: MaskResult | None
    why_not: str | None = None


def retrace(row: Mapping[str, Any], mask: _Bools) -> Retrace:
    """Decode an EditSample's images and run its mask's four steps again.

    Args:
        row: every column of the record, as Python values.
        mask: (H, W) bool, the stored one.

    Raises:
        RowRejected: there is no reference, or an image cannot be decoded.
    """
    try:
        step = _step_of(row)
        references, target = step.decode_pair(row["references"], row["target"])
    except (ConfigError, RowRejected) as error:
        why = error.sentence if isinstance(error, RowRejected) else f"{error.rule} ({error.field} = {error.value!r})"
        return Retrace(*decode_whole(row), None, why)
    result = step.recipe.build(references, target)
    if np.array_equal(result.mask, mask):
        return Retrace(tuple(references), target, result)
    return Retrace(tuple(references), target, None, f"{step.recipe.name} gives another mask here{_apart(result, mask)}")


def decode_whole(row: Mapping[str, Any]) -> tuple[tuple[Pixels, ...], Pixels]:
    """An edit row's references and target as they are, whatever their sizes: each (H, W, 3) uint8.

    Raises:
        RowRejected: there is no reference, or an image cannot be decoded.
    """
    if not row["references"]:
        raise RowRejected("reference_missing", "the sample has no reference image")
    *references, target = (
        decode_image(image["bytes"] if image else None, max_pixels=HARD_MAX_PIXELS)
        for image in (*row["references"], row["target"])
    )
    return tuple(references), target


def step_panels(result: MaskResult, side: int = PANEL_SIDE) -> tuple[Panel, ...]:
    """A panel for each of `MaskResult.stages`, in their order, no side longer than `side`.

    From the second on a panel shows what the step kept, what it gained and what it dropped; the last one on the latent
    grid, against the plain max-pool of the one before.
    """
    difference, threshold, grown, filtered, pooled = result.stages.values()
    titles = list(result.stages)
    cells = max_pool(_at(filtered, result.mask.shape[:2]))
    return (
        Panel(titles[0], _small(heat_map(difference), side), _HEAT_LEGEND),
        _mask_panel(titles[1], threshold, threshold, side),
        _mask_panel(titles[2], threshold, grown, side),
        _mask_panel(titles[3], grown, filtered, side),
        _mask_panel(titles[4], cells, pooled, side, is_grid=True),
    )


def _mask_panel(title: str, before: _Bools, after: _Bools, side: int, is_grid: bool = False) -> Panel:
    gained, dropped = edited_fraction(after & ~before), edited_fraction(before & ~after)
    legend: list[tuple[Colour, str]] = [(KEPT if after.any() else BACKGROUND, percent(edited_fraction(after)))]
    if gained:
        legend.append((GAINED, f"+{percent(gained)}"))
    if dropped:
        legend.append((DROPPED, f"-{percent(dropped)}"))
    return Panel(title, _small(trace(before, after), side), tuple(legend), is_grid)


def _at(mask: _Bools, shape: tuple[int, int]) -> _Bools:
    """A stage at the target's size; a recipe may compare large images on averages of several pixels."""
    if mask.shape == shape:
        return mask
    return enlarge_by(mask, shape[0] // mask.shape[0], shape)


def _small(picture: Picture, side: int) -> Picture:
    height, width = picture.shape[:2]
    return picture if max(height, width) <= side else shrink_bright(picture, *fitted_size(height, width, side, side))


def _step_of(row: Mapping[str, Any]) -> EditMasks:
    """The step that made the row's mask.

    Raises:
        ConfigError: this editmill has no such recipe, not that version of it, or not such parameters.
    """
    name, version = row["mask_recipe"], row["mask_recipe_version"]
    if name not in RECIPES:
        raise ConfigError("mask_recipe", name, "no such recipe is known here", "Show the stored mask alone.")
    if version != RECIPES[name].version:
        rule = f"here recipe {name} has version {RECIPES[name].version}"
        raise ConfigError("mask_recipe_version", version, rule, "Show the stored mask alone.")
    return _step(name, row["mask_parameters"])


@lru_cache(maxsize=16)
def _step(recipe: str, parameters: str) -> EditMasks:
    try:
        values = json.loads(parameters)
    except ValueError as error:
        raise ConfigError("mask_parameters", parameters, "is no JSON", "Show the stored mask alone.") from error
    # Where the sizes agree this changes nothing; where they differ, only a resized reference can have led to a mask.
    config = {"recipe": recipe, "parameters": values, "on_size_mismatch": "resize_reference"}
    return EditMasks(parse_config(EditMasksConfig, config, "mask_parameters"))


def _apart(result: MaskResult, mask: _Bools) -> str:
    if result.mask.shape != mask.shape:
        return f": {mask.shape[1]} x {mask.shape[0]} pixels are stored for a target of {_size(result.mask)}"
    return f": {percent(float(np.mean(result.mask != mask)))} of the pixels differ"


def _size(mask: _Bools) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"
