"""One edit as a picture: reference, outputs, target and mask side by side, each under its name. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainer.validation.bins import AREA_BINS
from trainer.validation.copying import Picture
from trainer.validation.edits import Edit, cell_pixels
from trainer.validation.held_out import HeldOutSample

_LARGEST = 448
"""Larger pictures are shrunk to this side."""
_SMALLEST = 192
"""Smaller ones are enlarged, so that their names have room."""
_GAP, _LINE = 12, 24
_INK, _SOFT, _PAPER, _BAD = (25, 27, 31), (98, 104, 114), (250, 250, 247), (179, 38, 45)
_FALLBACK_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf")


def strip(sample: HeldOutSample, edits: Sequence[Edit]) -> Picture:
    """The edits of one sample with one seed, by the raw and the averaged weights, as one picture.

    Args:
        edits: of this sample, at least one, with the same seed.

    Returns:
        (H, W, 3) uint8.
    """
    numbered = len(sample.references) > 1
    panels: list[tuple[str, str, bool, Picture]] = [
        (f"reference {place + 1}" if numbered else "reference", "", False, image)
        for place, image in enumerate(sample.references)
    ]
    for edit in edits:
        panels.append((f"{edit.figures.weights} output", _verdict(edit), bool(edit.figures.is_copy), edit.output))
    mask = np.repeat((cell_pixels(sample.cells) * np.uint8(255))[..., None], 3, axis=2)
    area = AREA_BINS[sample.area_bin] if sample.area_bin == "global" else f"{100 * sample.edited_fraction:.2g} % edited"
    panels += [("target", "", False, sample.target), ("mask", area, False, mask)]
    height = int(np.clip(sample.target.shape[0], _SMALLEST, _LARGEST))
    pictures = [_to_height(picture, height) for *_, picture in panels]
    widths = [picture.shape[1] for picture in pictures]
    total = sum(widths) + _GAP * (len(widths) + 1)
    title = _wrapped(sample.instruction, _font(sample.instruction, 17), total - 2 * _GAP, 2)
    top = _GAP + _LINE * (len(title) + 1) + 6
    canvas = Image.new("RGB", (total, top + 2 * _LINE + height + _GAP), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, line in enumerate(title):
        draw.text((_GAP, _GAP + _LINE * place), line, fill=_INK, font=_font(line, 17))
    below = _fitting(f"{sample.key}   seed {edits[0].figures.seed}", total - 2 * _GAP)
    draw.text((_GAP, _GAP + _LINE * len(title)), below, fill=_SOFT, font=_font(below, 13))
    left = _GAP
    for (name, told, is_bad, _), picture in zip(panels, pictures, strict=True):
        draw.text((left, top), name, fill=_INK, font=_font(name, 15))
        draw.text((left, top + 20), told, fill=_BAD if is_bad else _SOFT, font=_font(told, 13))
        canvas.paste(Image.fromarray(picture), (left, top + 2 * _LINE))
        left += picture.shape[1] + _GAP
    return np.asarray(canvas)


def _verdict(edit: Edit) -> str:
    share = edit.figures.change_share
    if share is None:
        return "nothing to change"
    return f"{'a copy, ' if edit.figures.is_copy else ''}{100 * share:.0f} % of the target's change"


def _to_height(picture: Picture, height: int) -> Picture:
    rows, columns = picture.shape[:2]
    if rows == height:
        return picture
    size = (max(1, round(columns * height / rows)), height)
    method = cv2.INTER_AREA if height < rows else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def _font(text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own face, or one of the machine's that has more letters where the text is not in Latin ones."""
    if not text.isascii():
        for name in _FALLBACK_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _fitting(text: str, width: int) -> str:
    font = _font(text, 13)
    while text and font.getlength(text) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, lines: int) -> list[str]:
    """At most `lines` lines, cut between words, or inside a word too long; the last ends in … where text is lost."""
    rows: list[str] = [""]
    words = text.split()
    while words:
        word = words.pop(0)
        longer = f"{rows[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            rows[-1] = longer
        elif not rows[-1]:
            fits = max((end for end in range(1, len(word)) if font.getlength(word[:end]) <= width), default=1)
            rows[-1] = word[:fits]
            words.insert(0, word[fits:])
            rows.append("")
        else:
            words.insert(0, word)
            rows.append("")
        if len(rows) > lines:
            last = rows[lines - 1]
            while last and font.getlength(f"{last}…") > width:
                last = last[:-1]
            return [*rows[: lines - 1], f"{last}…"]
    return rows
