"""The contact sheet: a row a sample, a column a panel, one colour scale for all weights, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipelines.preview.card import Card, Panel, percent
from pipelines.preview.picture import Colour, Picture, fit, fitted_size
from pipelines.preview.sheet_text import badge, face, face_for, swatches, wrap
from pipelines.preview.weight_view import colour_weights

_PAPER: Colour = (252, 252, 250)
_INK: Colour = (24, 26, 30)
_SOFT: Colour = (104, 109, 118)
_LINE: Colour = (222, 222, 216)


@dataclass(frozen=True)
class SheetStyle:
    """Measures of a contact sheet, in pixels."""

    panel_width: int = 320
    caption_width: int = 270
    margin: int = 44
    gap: int = 14
    tallest: float = 1.3
    """Height of the tallest panel, as a multiple of `panel_width`."""


def contact_sheet(
    cards: Sequence[Card], title: str, subtitle: str, weight_scale: float | None = None, style: SheetStyle | None = None
) -> Picture:
    """The sheet as a picture.

    Args:
        cards: at least one, in the order in which they are shown.
        title, subtitle: the heading; each on one line.
        weight_scale: the weight at the bright end of the colour scale, which is then drawn; None for no scale.
        style: measures; the default gives a sheet about 1700 pixels wide, and captions of single images more room.

    Returns:
        (H, W, 3) uint8. Panels keep their aspect ratio; each row is as high as its tallest panel or its caption.

    Raises:
        ValueError: no cards.
    """
    if not cards:
        raise ValueError("a contact sheet needs at least one card")
    titles = _columns(cards)
    measures = style or SheetStyle(caption_width=270 if len(titles) > 1 else 560)
    width = 2 * measures.margin + measures.caption_width + len(titles) * (measures.panel_width + measures.gap)
    width = max(width, 760)
    heights = [_row_height(card, measures) for card in cards]
    header = 142
    canvas = Image.new("RGB", (width, header + sum(heights) + measures.margin), _PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_header(canvas, draw, title, subtitle, titles, weight_scale, measures)
    top = header
    for card, height in zip(cards, heights, strict=True):
        draw.line((measures.margin, top, width - measures.margin, top), fill=_LINE)
        _draw_row(canvas, draw, card, titles, top + 18, measures)
        top += height
    return np.asarray(canvas, np.uint8)


def _columns(cards: Sequence[Card]) -> list[str]:
    """Panel titles in order, singular and plural of "reference" in one column."""
    names: list[str] = []
    for card in max(cards, key=lambda item: len(item.panels)).panels:
        names.append("reference" if card.title == "references" else card.title)
    return names


def _column_of(panel: Panel, titles: list[str]) -> int:
    return titles.index("reference" if panel.title == "references" else panel.title)


def _box_height(style: SheetStyle) -> int:
    return round(style.panel_width * style.tallest)


def _caption_lines(card: Card, style: SheetStyle) -> tuple[list[str], list[str]]:
    text = wrap(card.text, 20, style.caption_width - 24, 6)
    facts = [("edited", percent(card.fraction))] if card.fraction is not None else []
    lines = [
        line
        for name, value in [*facts, *card.facts, ("key", card.short_key)]
        for line in wrap(f"{name}  {value}", 14, style.caption_width - 24, 2)
    ]
    return text, lines


def _row_height(card: Card, style: SheetStyle) -> int:
    panels = max(
        fitted_size(panel.picture.shape[0], panel.picture.shape[1], _box_height(style), style.panel_width)[0]
        + (30 if panel.legend else 0)
        for panel in card.panels
    )
    text, facts = _caption_lines(card, style)
    caption = (34 if card.status is not None else 0) + 26 * len(text) + 8 + 20 * len(facts)
    return max(panels, caption) + 36


def _draw_header(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    title: str,
    subtitle: str,
    titles: list[str],
    weight_scale: float | None,
    style: SheetStyle,
) -> None:
    left, right = style.margin, canvas.width - style.margin
    room = right - left - (330 if weight_scale is not None else 0)
    draw.text((left, 34), wrap(title, 32, room, 1)[0], font=face(32), fill=_INK)
    draw.text((left, 78), wrap(subtitle, 16, room, 1)[0], font=face(16), fill=_SOFT)
    if weight_scale is not None:
        _draw_scale(canvas, draw, right - 300, 44, weight_scale)
    left += style.caption_width
    for name in titles:
        draw.text((left, 114), name, font=face(16), fill=_INK)
        left += style.panel_width + style.gap
    draw.text((style.margin, 114), "sample", font=face(16), fill=_INK)


def _draw_scale(canvas: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, weight_scale: float) -> None:
    width = 300
    ramp = np.exp2(np.linspace(0, np.log2(max(weight_scale, 1.0)), width))[np.newaxis].repeat(14, axis=0)
    canvas.paste(Image.fromarray(colour_weights(ramp, weight_scale)), (left, top))
    draw.text((left, top + 20), "1", font=face(14), fill=_SOFT)
    draw.text((left + width / 2, top + 20), "weight w, log scale", font=face(14), fill=_SOFT, anchor="ma")
    draw.text((left + width, top + 20), f"{weight_scale:.2f}", font=face(14), fill=_SOFT, anchor="ra")


def _draw_row(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, card: Card, titles: list[str], top: int, style: SheetStyle
) -> None:
    line = top
    if card.status is not None:
        badge(draw, (style.margin, line), card.status, 14)
        line += 34
    text, facts = _caption_lines(card, style)
    for part in text:
        draw.text((style.margin, line), part, font=face_for(card.text, 20), fill=_INK)
        line += 26
    line += 8
    for part in facts:
        draw.text((style.margin, line), part, font=face_for(part, 14), fill=_SOFT)
        line += 20
    for panel in card.panels:
        left = style.margin + style.caption_width + _column_of(panel, titles) * (style.panel_width + style.gap)
        picture = fit(panel.picture, _box_height(style), style.panel_width, nearest=panel.is_grid)
        canvas.paste(Image.fromarray(picture), (left, top))
        swatches(draw, (left, top + picture.shape[0] + 9), panel.legend, 14, _SOFT)
