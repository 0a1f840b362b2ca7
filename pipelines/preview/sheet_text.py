"""Type on a picture: Pillow's own scalable face (a system's where a script needs it), wrapping, badges, swatches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from PIL import ImageDraw, ImageFont

from pipelines.preview.picture import Colour

STATUS_COLOURS: dict[str, Colour] = {
    "ok": (22, 128, 84),
    "unchanged": (105, 112, 122),
    "global": (38, 98, 196),
    "too_small": (178, 106, 8),
    "misaligned": (190, 42, 48),
}
"""Badge colour of each mask status; dark enough for white type on it."""
UNKNOWN_STATUS_COLOUR: Colour = (105, 112, 122)
Legend = tuple[tuple[Colour, str], ...]
"""Swatches and what they mean."""
SWATCH_LINE = 19
"""Height of a line of swatches, in pixels."""
_WIDER_FACES = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSans-Regular.ttf",
    "wqy-zenhei.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
)
"""Faces of Linux, macOS and Windows that hold other scripts; Pillow looks in the system's own folders."""
_NO_CHARACTER = "\uffff"
"""A code point that is no character, so that every face draws its sign for a missing one."""


@lru_cache(maxsize=16)
def face(size: int) -> ImageFont.FreeTypeFont:
    """The face that comes inside Pillow, at `size` pixels, so that a sheet looks alike on every machine.

    Raises:
        OSError: Pillow was built without FreeType.
    """
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise OSError("Pillow was built without FreeType: no scalable type; install Pillow from PyPI")
    return loaded


@lru_cache(maxsize=64)
def face_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """`face(size)` where it has every character of `text`, else the first installed face of `_WIDER_FACES` that has.

    Instructions come in every script and Pillow's face knows the Latin one only. Where no face has them, missing
    characters are drawn as boxes; the HTML page shows them in any case.
    """
    usual = face(size)
    if _has_all(usual, text):
        return usual
    for name in _WIDER_FACES:
        try:
            wider = ImageFont.truetype(name, size)
        except OSError:
            continue
        if _has_all(wider, text):
            return wider
    return usual


def _has_all(font: ImageFont.FreeTypeFont, text: str) -> bool:
    absent = bytes(font.getmask(_NO_CHARACTER))
    return all(bytes(font.getmask(character)) != absent for character in set(text) if not character.isspace())


def wrap(text: str, size: int, width: int, limit: int) -> list[str]:
    """`text` in lines no wider than `width` pixels, at most `limit` of them, the last with `…` where text is left over.

    Broken at spaces; a word wider than a line (or text in a script without spaces) is broken where the line ends.
    """
    # What lies beyond is never seen, and measuring a text of a million letters would take hours.
    text = text[: (limit + 1) * width]
    font, lines, line = face_for(text, size), [], ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if font.getlength(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width and len(word) > 1:
            fits = _longest_fit(word, font, width)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    lines.append(line)
    if len(lines) > limit:
        last = lines[limit - 1]
        while last and font.getlength(f"{last}…") > width:
            last = last[:-1]
        lines = [*lines[: limit - 1], f"{last.rstrip()}…"]
    return lines


def _longest_fit(word: str, font: ImageFont.FreeTypeFont, width: int) -> int:
    """Length of the longest beginning of `word`, not the whole, that is no wider than `width` pixels; at least 1."""
    shortest, longest = 1, len(word) - 1
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if font.getlength(word[:middle]) <= width:
            shortest = middle
        else:
            longest = middle - 1
    return shortest


def badge(draw: ImageDraw.ImageDraw, position: tuple[int, int], status: str, size: int) -> int:
    """A filled rounded label with the status in white; returns its width in pixels."""
    text = status.replace("_", " ")
    left, top = position
    width = round(face(size).getlength(text)) + size
    colour = STATUS_COLOURS.get(status, UNKNOWN_STATUS_COLOUR)
    draw.rounded_rectangle((left, top, left + width, top + round(size * 1.6)), radius=size * 0.8, fill=colour)
    draw.text((left + width / 2, top + size * 0.8), text, font=face(size), fill=(255, 255, 255), anchor="mm")
    return width


def flow(legend: Legend, size: int, width: int) -> list[Legend]:
    """`legend` in lines no wider than `width` pixels, where a single entry allows it."""
    lines: list[list[tuple[Colour, str]]] = []
    right = width + 1
    for colour, text in legend:
        needed = _entry_width(text, size)
        if right + needed > width:
            lines.append([])
            right = 0
        lines[-1].append((colour, text))
        right += needed + size
    return [tuple(line) for line in lines]


def swatches(
    draw: ImageDraw.ImageDraw, position: tuple[int, int], lines: Sequence[Legend], size: int, ink: Colour
) -> None:
    """Small squares of colour, each followed by what it means; the upper left corner is `position`, and a line takes
    `SWATCH_LINE` pixels."""
    left, top = position
    for line in lines:
        for colour, text in line:
            draw.rectangle((left, top + 2, left + size - 2, top + size), fill=colour, outline=ink)
            draw.text((left + size + 5, top + size / 2 + 1), text, font=face(size), fill=ink, anchor="lm")
            left += _entry_width(text, size) + size
        left, top = position[0], top + SWATCH_LINE


def _entry_width(text: str, size: int) -> int:
    return size + 5 + round(face(size).getlength(text))
