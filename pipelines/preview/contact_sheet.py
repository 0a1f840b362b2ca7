"""The contact sheet: a row a sample, a column a panel, one colour scale for all weights, as one picture or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipelines.preview.card import Card, Panel, percent
from pipelines.preview.picture import Colour, Picture, fit, fitted_size, resize_to, shrink_bright
from pipelines.preview.sheet_text import SWATCH_LINE, badge, face, face_for, flow, swatches, wrap
from pipelines.preview.weight_view import colour_weights

TALLEST_SHEET = 16_000
"""Pixels: higher pictures are refused by many viewers (graphics cards stop at 16,384), so that samples beyond go onto
a further sheet."""
_PAPER: Colour = (252, 252, 250)
_INK: Colour = (24, 26, 30)
_SOFT: Colour = (104, 109, 118)
_LINE: Colour = (222, 222, 216)
_HEADER = 142
_LEGEND_TYPE = 14
_FIRST = 2
"""Panels before the steps: reference and target."""


@dataclass(frozen=True)
class SheetStyle:
    """Measures of a contact sheet, in pixels."""

    panel_width: int
    caption_width: int
    margin: int = 44
    gap: int = 14
    tallest: float = 1.3
    """Height of the tallest panel, as a multiple of `panel_width`."""


@dataclass(frozen=True)
class _Cell:
    """A panel in its column, with its picture at its final size and its legend in lines."""

    column: int
    picture: Picture
    legend: list[tuple[tuple[Colour, str], ...]]

    @property
    def height(self) -> int:
        return len(self.picture) + (9 + SWATCH_LINE * len(self.legend) if self.legend else 0)


def contact_sheets(
    cards: Sequence[Card],
    title: str,
    subtitle: str,
    weight_scale: float | None = None,
    with_steps: bool = True,
    tallest: int = TALLEST_SHEET,
) -> Iterator[Picture]:
    """The sheets as pictures, one in memory at a time.

    Args:
        cards: at least one, in the order in which they are shown.
        title, subtitle: the heading; each on one line.
        weight_scale: the weight at the bright end of the colour scale, which is then drawn; None for no scale.
        with_steps: whether the mask's steps stand between target and mask.
        tallest: height that a sheet of more than one sample does not pass, in pixels.

    Yields:
        (H, W, 3) uint8. Panels keep their aspect ratio; each row is as high as its tallest panel or its caption. All
        sheets have the same columns.

    Raises:
        ValueError: no cards.
    """
    if not cards:
        raise ValueError("a contact sheet needs at least one card")
    steps = max(len(card.steps) for card in cards) if with_steps else 0
    titles = _titles(cards, steps)
    style = SheetStyle(216, 300) if steps else SheetStyle(320, 300 if len(titles) > 1 else 560)
    sheets = list(_sheets([_row_height(card, steps, style) for card in cards], tallest - _HEADER - style.margin))
    for number, rows in enumerate(sheets, 1):
        told = subtitle if len(sheets) == 1 else f"{subtitle} · sheet {number} of {len(sheets)}"
        yield _sheet([cards[row] for row in rows], titles, steps, style, title, told, weight_scale)


def _sheets(heights: Sequence[int], room: int) -> Iterator[range]:
    """Which rows stand on each sheet."""
    first, used = 0, 0
    for row, height in enumerate(heights):
        if row > first and used + height > room:
            yield range(first, row)
            first, used = row, 0
        used += height
    yield range(first, len(heights))


def _sheet(
    cards: Sequence[Card],
    titles: Sequence[str],
    steps: int,
    style: SheetStyle,
    title: str,
    subtitle: str,
    weight_scale: float | None,
) -> Picture:
    heights = [_row_height(card, steps, style) for card in cards]
    width = 2 * style.margin + style.caption_width + len(titles) * (style.panel_width + style.gap) - style.gap
    canvas = Image.new("RGB", (max(width, 760), _HEADER + sum(heights) + style.margin), _PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_header(canvas, draw, title, subtitle, titles, weight_scale, style)
    top = _HEADER
    for card, height in zip(cards, heights, strict=True):
        draw.line((style.margin, top, canvas.width - style.margin, top), fill=_LINE)
        _draw_row(canvas, draw, card, steps, top + 18, style)
        top += height
    return np.asarray(canvas, np.uint8)


def _placed(card: Card, steps: int) -> Iterator[tuple[int, Panel, bool]]:
    """(column, panel, whether it is a step) of each panel: steps stand between target and mask, and a card without
    them leaves their columns free."""
    for column, panel in enumerate(card.panels):
        yield column if column < _FIRST else column + steps, panel, False
    for column, panel in enumerate(card.steps if steps else ()):
        yield _FIRST + column, panel, True


def _titles(cards: Sequence[Card], steps: int) -> list[str]:
    """A title a column; recipes that name a step otherwise share its column."""
    names: dict[int, dict[str, None]] = {}
    for card in cards:
        for column, panel, _ in _placed(card, steps):
            name = "reference" if panel.title == "references" else panel.title
            names.setdefault(column, {})[name] = None
    return [" / ".join(names.get(column, {})) for column in range(max(names) + 1)]


def _cells(card: Card, steps: int, style: SheetStyle) -> Iterator[_Cell]:
    box = round(style.panel_width * style.tallest)
    for column, panel, is_step in _placed(card, steps):
        size = fitted_size(panel.picture.shape[0], panel.picture.shape[1], box, style.panel_width)
        if is_step and size[0] <= panel.picture.shape[0] and size[1] <= panel.picture.shape[1]:
            picture = shrink_bright(panel.picture, *size)
        elif panel.is_grid:
            picture = fit(panel.picture, box, style.panel_width, nearest=True)
        else:
            picture = resize_to(panel.picture, *size)
        yield _Cell(column, picture, flow(panel.legend, _LEGEND_TYPE, style.panel_width))


def _caption_lines(card: Card, style: SheetStyle) -> tuple[list[str], list[str]]:
    width = style.caption_width - 24
    facts = [("edited", percent(card.fraction))] if card.fraction is not None else []
    lines = [
        line
        for name, value in [*facts, *card.facts, ("key", card.short_key)]
        for line in wrap(f"{name}  {value}", 14, width, 3)
    ]
    return wrap(card.text, 20, width, 6), lines


def _row_height(card: Card, steps: int, style: SheetStyle) -> int:
    box = round(style.panel_width * style.tallest)
    panels = max(
        fitted_size(panel.picture.shape[0], panel.picture.shape[1], box, style.panel_width)[0]
        + (9 + SWATCH_LINE * len(flow(panel.legend, _LEGEND_TYPE, style.panel_width)) if panel.legend else 0)
        for _, panel, _ in _placed(card, steps)
    )
    text, facts = _caption_lines(card, style)
    status = (34 if card.status is not None else 0) + (22 if card.confidence is not None else 0)
    return max(panels, status + 26 * len(text) + 8 + 20 * len(facts)) + 36


def _draw_header(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    title: str,
    subtitle: str,
    titles: Sequence[str],
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
        draw.text((left, 114), wrap(name, 16, style.panel_width, 1)[0], font=face(16), fill=_INK)
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
    canvas: Image.Image, draw: ImageDraw.ImageDraw, card: Card, steps: int, top: int, style: SheetStyle
) -> None:
    line = top
    if card.status is not None:
        badge(draw, (style.margin, line), card.status, 14)
        line += 34
    if card.confidence is not None:
        draw.text((style.margin, line - 4), f"confidence {card.confidence:.2f}", font=face(14), fill=_INK)
        line += 22
    text, facts = _caption_lines(card, style)
    for part in text:
        draw.text((style.margin, line), part, font=face_for(card.text, 20), fill=_INK)
        line += 26
    line += 8
    for part in facts:
        draw.text((style.margin, line), part, font=face_for(part, 14), fill=_SOFT)
        line += 20
    for cell in _cells(card, steps, style):
        left = style.margin + style.caption_width + cell.column * (style.panel_width + style.gap)
        canvas.paste(Image.fromarray(cell.picture), (left, top))
        swatches(draw, (left, top + cell.picture.shape[0] + 9), cell.legend, _LEGEND_TYPE, _SOFT)
