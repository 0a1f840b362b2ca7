"""From a record row, as shards hold it, to what is looked at."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.preview.card import PANEL_SIDE, Card, EditLook, image_card, shrink_pair
from pipelines.preview.picture import Picture, fit
from pipelines.preview.weight_view import view_weights
from pipelines.shards.members import chosen_caption
from schemas.images import decode_image, decode_mask


def edit_look(row: Mapping[str, Any], weighting: str, cap: float | None = None) -> EditLook:
    """An EditSample row decoded and shrunk, its weights taken from the full-resolution mask.

    Args:
        row: every column of the record, as Python values.
        weighting, cap: as `schemas.weighting.region_weight`.

    Raises:
        RowRejected: an image or the mask cannot be decoded.
        ConfigError: the weighting is not one.
    """
    mask = decode_mask(row["mask"]["bytes"])
    target, small_mask = shrink_pair(decode_image(row["target"]["bytes"]), mask)
    return EditLook(
        key=row["key"],
        instruction=plain(row["instruction"]),
        status=row["mask_status"],
        fraction=row["edited_fraction"],
        facts=_facts(row, ("type", "edit_type"), ("source", "source"), ("recipe", "mask_recipe")),
        references=tuple(_small(image["bytes"]) for image in row["references"]),
        target=target,
        mask=small_mask,
        weights=view_weights(mask, weighting, cap),
    )


def caption_card(row: Mapping[str, Any], caption_order: Sequence[str]) -> Card:
    """An ImageRecord row with the caption that its .txt member has.

    Args:
        caption_order: kinds of caption, the first one present is shown; as the pack config has it.

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
    return image_card(row["key"], plain(caption or "(no caption)"), tuple(facts), _small(row["image"]["bytes"]))


def plain(text: str) -> str:
    """`text` on one line, without control characters: data must not steer a terminal, and no face draws them."""
    return "".join(" " if character.isspace() else character for character in text if _is_harmless(character))


def _is_harmless(character: str) -> bool:
    return character.isspace() or not unicodedata.category(character).startswith("C")


def _small(data: bytes) -> Picture:
    # A copy where nothing shrank, so that no view keeps a large decoded image alive.
    return np.array(fit(decode_image(data), PANEL_SIDE, PANEL_SIDE, enlarge=False))


def _facts(row: Mapping[str, Any], *columns: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    present = [(name, row[column]) for name, column in columns if row[column] is not None]
    return tuple((name, f"{value:.3g}" if isinstance(value, float) else plain(str(value))) for name, value in present)
