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

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_LARGEST = 448
"""Larger pictures are shrunk to this side."""
_SMALLEST = 192
"""Smaller ones are enlarged, so that their names have room."""
_LEGIBLE = 1080
"""Width in pixels of a page that a strip is looked at on."""
_GAP = 12
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
    # Wide strips are looked at shrunk: their texts grow with them.
    unit = max(1.0, total / _LEGIBLE)
    large, usual, small, line = (round(unit * size) for size in (17, 15, 13, 24))
    room = total - 2 * _GAP
    face = _font(sample.instruction, large)
    title = _wrapped(sample.instruction, face, room, 2)
    top = _GAP + line * (len(title) + 1) + line // 4
    canvas = Image.new("RGB", (total, top + 2 * line + height + _GAP), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, text in enumerate(title):
        draw.text((_GAP, _GAP + line * place), text, fill=_INK, font=face)
    below = _fitting(f"{sample.key}   seed {edits[0].figures.seed}", _font(sample.key, small), room)
    draw.text((_GAP, _GAP + line * len(title)), below, fill=_SOFT, font=_font(sample.key, small))
    left = _GAP
    for (name, told, is_bad, _), picture in zip(panels, pictures, strict=True):
        width = picture.shape[1]
        draw.text((left, top), _fitting(name, _font(name, usual), width), fill=_INK, font=_font(name, usual))
        text = _fitting(told, _font(told, small), width)
        draw.text((left, top + round(0.85 * line)), text, fill=_BAD if is_bad else _SOFT, font=_font(told, small))
        canvas.paste(Image.fromarray(picture), (left, top + 2 * line))
        if name == "mask":
            # A white mask would not be told from the paper.
            draw.rectangle((left, top + 2 * line, left + width - 1, top + 2 * line + height - 1), outline=_SOFT)
        left += width + _GAP
    return np.asarray(canvas)


def _verdict(edit: Edit) -> str:
    share = edit.figures.change_share
    if share is None:
        return ""
    return f"{'a copy, ' if edit.figures.is_copy else ''}{100 * share:.0f} % of the target's change"


def _to_height(picture: Picture, height: int) -> Picture:
    rows, columns = picture.shape[:2]
    if rows == height:
        return picture
    size = (max(1, round(columns * height / rows)), height)
    method = cv2.INTER_AREA if height < rows else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def _font(text: str, size: int) -> Font:
    """Pillow's own face, or one of the machine's that has more letters where the text is not in Latin ones."""
    if not text.isascii():
        for name in _FALLBACK_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _fitting(text: str, font: Font, width: int) -> str:
    """The text, cut where it is longer than `width` pixels."""
    while text and font.getlength(text) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text


def _wrapped(text: str, font: Font, width: int, lines: int) -> list[str]:
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
