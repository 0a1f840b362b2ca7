"""One self-contained HTML page: cards to be sorted, filtered, compared with a slider and marked, without a server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pipelines.preview.card import Card, Pair, Panel, percent
from pipelines.preview.mask_layers import mask_layers
from pipelines.preview.page_pictures import PictureShelf
from pipelines.preview.picture import Colour
from pipelines.preview.sheet_text import STATUS_COLOURS, UNKNOWN_STATUS_COLOUR
from pipelines.preview.weight_view import colour_weights
from schemas.masks import LATENT_STRIDE, MaskStatus

_WEB = Path(__file__).with_name("web")
_STYLES = ("page.css", "focus.css")
_SCRIPTS = (
    "data.js", "marks.js", "filters.js", "menus.js", "stage.js", "cards.js", "marking.js", "focus.js", "keys.js",
    "main.js",
)  # fmt: skip
"""Joined in this order into one script, in one scope."""


def preview_page(cards: Sequence[Card], title: str, subtitle: str, weight_scale: float | None = None) -> str:
    """The page as text: no server, no external resource, readable in the light and in the dark.

    Sorted with the least confident mask first where masks have a confidence, else in the order given. Marks that a
    person sets are kept in the browser under `page_identity`, and downloaded as JSON Lines.

    Args:
        cards: in their order in the shards.
        title, subtitle: the heading.
        weight_scale: the weight at the bright end of the colour scale, which is then drawn; None for no scale.

    Returns:
        HTML. Every text of a card is escaped; pictures are data URIs; the page's own policy forbids it to load anything
        and to run any script but its own.
    """
    script = "\n".join(_read(name) for name in _SCRIPTS)
    return _template().render(
        title=title,
        subtitle=subtitle,
        style=Markup("\n".join(_read(name) for name in _STYLES)),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode(),
        cards=(_card_values(card, position) for position, card in enumerate(cards)),
        data=_json(
            {"identity": page_identity(cards), "title": title, "statuses": [*MaskStatus], "records": _records(cards)}
        ),
        can_mark=any(card.status is not None for card in cards),
        has_pair=any(card.pair is not None for card in cards),
        has_steps=any(card.steps for card in cards),
        status_colours={name: _css(colour) for name, colour in STATUS_COLOURS.items()},
        unknown_colour=_css(UNKNOWN_STATUS_COLOUR),
        is_single=all(len(card.panels) == 1 for card in cards),
        stride=LATENT_STRIDE,
        scale=None if weight_scale is None else f"{weight_scale:.2f}",
        ramp=None if weight_scale is None else ", ".join(_ramp()),
    )


def page_identity(cards: Sequence[Card]) -> str:
    """16 hexadecimal digits that two pages share where they show the same masks of the same samples, in any order.

    So the marks set on a page are found again on one with another weighting, and not on one with other masks.
    """
    shown = sorted(repr((card.key, card.status, card.fraction, card.recipe)) for card in cards)
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()[:16]


def _records(cards: Sequence[Card]) -> list[dict[str, Any]]:
    return [
        {
            "key": card.key,
            "text": card.text,
            "status": card.status,
            "fraction": card.fraction,
            "confidence": card.confidence,
            "weight": card.weight,
            "source": card.source,
            "edit_type": card.edit_type,
            "recipe": card.recipe,
        }
        for card in cards
    ]


def _card_values(card: Card, position: int) -> dict[str, Any]:
    shelf = PictureShelf()
    names = {name for name, _ in card.facts}
    confidence = None if card.confidence is None or "confidence" in names else f"{card.confidence:.2f}"
    panels = [_panel_values(panel, shelf) for panel in card.panels]
    steps = [_panel_values(panel, shelf) for panel in card.steps]
    pair = None if card.pair is None else _pair_values(card.pair, shelf)
    return {
        "position": position,
        "key": card.key,
        "short_key": card.short_key,
        "text": card.text,
        "status": card.status,
        "percent": None if card.fraction is None else percent(card.fraction),
        "confidence": confidence,
        "facts": card.facts,
        "panels": panels,
        "steps": steps,
        "pictures": _json({"sources": shelf.sources, "pair": pair}),
        "has_pair": pair is not None,
    }


def _panel_values(panel: Panel, shelf: PictureShelf) -> dict[str, Any]:
    return {
        "title": panel.title,
        "place": shelf.add(panel.picture, panel.is_grid),
        "width": panel.picture.shape[1],
        "height": panel.picture.shape[0],
        "is_grid": panel.is_grid,
        "legend": [(_css(colour), text) for colour, text in panel.legend],
    }


def _pair_values(pair: Pair, shelf: PictureShelf) -> dict[str, Any]:
    height, width = pair.target.shape[:2]
    references = [
        {"place": shelf.add(picture), "ratio": picture.shape[1] / picture.shape[0]} for picture in pair.references
    ]
    target = {"place": shelf.add(pair.target), "ratio": width / height}
    layers = () if pair.mask is None else (shelf.add_file(layer, "png") for layer in mask_layers(pair.mask))
    return {"references": references, "target": target, **dict(zip(("outline", "tint"), layers, strict=False))}


def _json(value: Any) -> Markup:
    """`value` as JSON that cannot end a script element: `<`, `>` and `&` stand in it as \\u escapes only."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_read("page.html"))


def _read(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8")


def _ramp(stops: int = 9) -> list[str]:
    colours = colour_weights(np.exp2(np.linspace(0, 1, stops))[np.newaxis], 2.0)[0]
    return [_css((int(red), int(green), int(blue))) for red, green, blue in colours]


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
