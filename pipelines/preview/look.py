"""From a record row, as shards hold it, to what is looked at."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.masks.recipe import MaskResult
from pipelines.masks.step import EditMasks
from pipelines.preview.card import PANEL_SIDE, Card, EditLook, image_card, shrink_pair
from pipelines.preview.mask_steps import decode_whole, retrace, step_panels
from pipelines.preview.picture import Picture, fit
from pipelines.preview.weight_view import view_weights
from pipelines.shards.members import chosen_caption
from schemas.errors import RowRejected
from schemas.images import HARD_MAX_PIXELS, decode_image, decode_mask
from schemas.records import EDIT_SAMPLE

REFUSED = "refused"
"""Name of the fact that says why a pair has no mask."""


def is_masked(row: Mapping[str, Any]) -> bool:
    """Whether a row is a whole edit sample, not a pair that waits for its mask."""
    return all(row.get(column) is not None for column in EDIT_SAMPLE.required)


def edit_look(row: Mapping[str, Any], weighting: str, cap: float | None = None, side: int = PANEL_SIDE) -> EditLook:
    """An EditSample row decoded and shrunk, its weights taken from the full-resolution mask.

    The stored mask is what is shown. How it came about is shown too where `pipelines.preview.mask_steps.retrace` can
    tell, and where it cannot the facts say why.

    Args:
        row: every column of the record, as Python values.
        weighting, cap: as `schemas.weighting.region_weight`.
        side: longest side of the pictures kept.

    Raises:
        RowRejected: an image or the mask cannot be decoded, or there is no reference.
        ConfigError: the weighting is not one.
    """
    mask = decode_mask(row["mask"]["bytes"], max_pixels=HARD_MAX_PIXELS)
    traced = retrace(row, mask)
    told = [("recipe", plain(row["mask_recipe"]))]
    if traced.why_not is not None:
        told.append(("steps", f"not shown: {plain(traced.why_not)}"))
    small, small_mask = shrink_pair(traced.target, mask, side)
    return EditLook(
        **_record(row),
        status=plain(row["mask_status"]),
        fraction=row["edited_fraction"],
        facts=(*_facts(row, ("type", "edit_type"), ("source", "source")), *told, *_file(row)),
        references=_shrunk(traced.references, side),
        target=small,
        mask=small_mask,
        weights=view_weights(mask, weighting, cap),
        steps=() if traced.result is None else step_panels(traced.result, side),
        confidence=row.get("mask_confidence"),
        recipe=plain(row["mask_recipe"]),
    )


def pair_look(
    row: Mapping[str, Any], step: EditMasks, weighting: str, cap: float | None = None, side: int = PANEL_SIDE
) -> EditLook:
    """An EditPair row with the mask that `step` gives it, whatever its status.

    A pair that the step refuses although its images can be decoded (their sizes differ, say) has the reason as its
    status and no mask.

    Args:
        row: the columns of the record, as Python values.
        step: whose recipe, and whose treatment of sizes.
        weighting, cap, side: as `edit_look`.

    Raises:
        RowRejected: an image cannot be decoded, or there is no reference.
        ConfigError: the weighting is not one.
    """
    try:
        references, target = step.decode_pair(row["references"], row["target"])
    except RowRejected as rejection:
        untouched, after = decode_whole(row)
        return EditLook(
            **_record(row),
            status=rejection.reason,
            fraction=None,
            facts=(*_pair_facts(row, step.recipe.name), (REFUSED, plain(rejection.sentence)), *_file(row)),
            references=_shrunk(untouched, side),
            target=_shrunk([after], side)[0],
            mask=None,
            weights=None,
            recipe=step.recipe.name,
        )
    result = step.recipe.build(references, target)
    return built_look(row, references, target, result, step.recipe.name, weighting, cap, side)


def built_look(
    row: Mapping[str, Any],
    references: Sequence[Picture],
    target: Picture,
    result: MaskResult,
    recipe: str,
    weighting: str,
    cap: float | None = None,
    side: int = PANEL_SIDE,
    with_steps: bool = True,
) -> EditLook:
    """A decoded pair with a mask that was just built.

    Args:
        row: the columns of the record; of its images only the target's `path` is looked at.
        references, target: (H, W, 3) uint8 of one size.
        result: the mask, by the recipe called `recipe`.
        weighting, cap, side: as `edit_look`.
        with_steps: whether to draw how it came about.

    Raises:
        ConfigError: the weighting is not one.
    """
    small, small_mask = shrink_pair(target, result.mask, side)
    return EditLook(
        **_record(row),
        status=result.status.value,
        fraction=result.edited_fraction,
        facts=(*_pair_facts(row, recipe), *_file(row)),
        references=_shrunk(references, side),
        target=small,
        mask=small_mask,
        weights=view_weights(result.mask, weighting, cap),
        steps=step_panels(result, side) if with_steps else (),
        confidence=result.confidence,
        recipe=recipe,
    )


def caption_card(row: Mapping[str, Any], caption_order: Sequence[str], side: int = PANEL_SIDE) -> Card:
    """An ImageRecord row with the caption that its .txt member has.

    Args:
        caption_order: kinds of caption, the first one present is shown; as the pack config has it.
        side: longest side of the picture kept.

    Raises:
        RowRejected: the image cannot be decoded.
    """
    caption = chosen_caption(row, caption_order)
    facts = list(_facts(row, ("aesthetic", "aesthetic"), ("source", "source")))
    writers = [written["model"] for written in row["captions"] or () if written["text"] == caption]
    if writers and writers[0]:
        facts.append(("written by", plain(writers[0])))
    if row["caption"] and row["caption"] != caption:
        facts.append(("was", plain(row["caption"])))
    image = decode_image(row["image"]["bytes"] if row["image"] else None, max_pixels=HARD_MAX_PIXELS)
    [picture] = _shrunk([image], side)
    return image_card(row["key"], plain(caption or "(no caption)"), tuple(facts), picture, _text(row["source"]))


def plain(text: str) -> str:
    """`text` on one line, without control characters: data must not steer a terminal, and no face draws them."""
    return "".join(" " if character.isspace() else character for character in text if _is_harmless(character))


def _is_harmless(character: str) -> bool:
    return character.isspace() or not unicodedata.category(character).startswith("C")


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a look takes from the pair's own columns."""
    return {
        "key": row["key"],
        "instruction": plain(row["instruction"]) or "(no instruction)",
        "source": _text(row.get("source")),
        "edit_type": _text(row.get("edit_type")),
    }


def _pair_facts(row: Mapping[str, Any], recipe: str) -> tuple[tuple[str, str], ...]:
    return (*_facts(row, ("type", "edit_type"), ("source", "source")), ("recipe", recipe))


def _file(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The name under which the target came, so that one finds back to it."""
    path = row["target"].get("path")
    return (("target", plain(path)),) if path else ()


def _shrunk(pictures: Sequence[Picture], side: int) -> tuple[Picture, ...]:
    return tuple(fit(picture, side, side, enlarge=False) for picture in pictures)


def _text(value: str | None) -> str | None:
    return None if value is None else plain(value)


def _facts(row: Mapping[str, Any], *columns: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    present = [(name, row[column]) for name, column in columns if row.get(column) is not None]
    return tuple((name, f"{value:.3g}" if isinstance(value, float) else plain(str(value))) for name, value in present)
