"""One self-contained HTML page: cards with their panels, to be filtered by status and sorted by edited fraction."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from pipelines.preview.card import Card, Panel, percent
from pipelines.preview.picture import Colour, encode_jpeg, encode_png
from pipelines.preview.sheet_text import STATUS_COLOURS, UNKNOWN_STATUS_COLOUR
from pipelines.preview.weight_view import colour_weights
from schemas.masks import LATENT_STRIDE

_TEMPLATE = Path(__file__).with_name("page.html")


def preview_page(cards: Sequence[Card], title: str, subtitle: str, weight_scale: float | None = None) -> str:
    """The page as text: no server, no external resource, readable in the light and in the dark.

    Args:
        cards: in the order in which they are shown.
        title, subtitle: the heading.
        weight_scale: the weight at the bright end of the colour scale, which is then drawn; None for no scale.

    Returns:
        HTML. Every text of a card is escaped; pictures are data URIs.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=title,
        subtitle=subtitle,
        cards=[_card_values(card, position) for position, card in enumerate(cards)],
        statuses=sorted(Counter(card.status for card in cards if card.status is not None).items()),
        has_fraction=any(card.fraction is not None for card in cards),
        status_colours={name: _css(colour) for name, colour in STATUS_COLOURS.items()},
        unknown_colour=_css(UNKNOWN_STATUS_COLOUR),
        is_single=all(len(card.panels) == 1 for card in cards),
        stride=LATENT_STRIDE,
        scale=None if weight_scale is None else f"{weight_scale:.2f}",
        ramp=None if weight_scale is None else ", ".join(_ramp()),
    )


def _card_values(card: Card, position: int) -> dict[str, Any]:
    return {
        "position": position,
        "key": card.key,
        "short_key": card.short_key,
        "text": card.text,
        "status": card.status,
        "fraction": card.fraction,
        "percent": None if card.fraction is None else percent(card.fraction),
        "facts": card.facts,
        "panels": [_panel_values(panel) for panel in card.panels],
    }


def _panel_values(panel: Panel) -> dict[str, Any]:
    data, kind = (encode_png(panel.picture), "png") if panel.is_grid else (encode_jpeg(panel.picture), "jpeg")
    return {
        "title": panel.title,
        "source": f"data:image/{kind};base64,{base64.standard_b64encode(data).decode()}",
        "width": panel.picture.shape[1],
        "height": panel.picture.shape[0],
        "is_grid": panel.is_grid,
        "legend": [(_css(colour), text) for colour, text in panel.legend],
    }


def _ramp(stops: int = 9) -> list[str]:
    colours = colour_weights(np.exp2(np.linspace(0, 1, stops))[np.newaxis], 2.0)[0]
    return [_css((int(red), int(green), int(blue))) for red, green, blue in colours]


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
