"""Pictures in a terminal: kitty's graphics protocol, sixel, or half blocks in 24-bit colour.

Pure functions to text. A terminal is recognised by its environment alone: asking it (device attributes, `ESC [ c`)
would cover a plain xterm with sixel, but waits on a reply that may never come over ssh; `--terminal sixel` covers it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from PIL import Image

from pipelines.preview.picture import Picture, encode_png

KITTY_CHUNK = 4096
"""Largest base64 payload of one kitty escape, in characters; all but the last must be a multiple of 4."""
_SIXEL_TERMS = ("sixel", "foot", "mlterm", "contour", "yaft")
_KITTY_TERMS = ("kitty", "ghostty", "wezterm")
_CELL_WIDTH = 9


class Terminal(StrEnum):
    """How pictures are shown."""

    KITTY = "kitty"
    SIXEL = "sixel"
    BLOCKS = "blocks"
    NONE = "none"


def detect(environment: Mapping[str, str], is_terminal: bool) -> Terminal:
    """What the terminal can show, from its environment variables.

    Args:
        environment: TERM, TERM_PROGRAM, KITTY_WINDOW_ID, TMUX are looked at.
        is_terminal: whether the output goes to a terminal at all.

    Returns:
        Half blocks where nothing better is known, and inside tmux and screen, which swallow the other two.
    """
    term = environment.get("TERM", "").lower()
    program = environment.get("TERM_PROGRAM", "").lower()
    if not is_terminal or term == "dumb":
        return Terminal.NONE
    if environment.get("TMUX") or term.startswith(("screen", "tmux")):
        return Terminal.BLOCKS
    if environment.get("KITTY_WINDOW_ID") or any(name in term or name in program for name in _KITTY_TERMS):
        return Terminal.KITTY
    if any(name in term for name in _SIXEL_TERMS):
        return Terminal.SIXEL
    return Terminal.BLOCKS


def pixel_width(terminal: Terminal, columns: int) -> int:
    """Pixels across `columns` characters: one each for half blocks, else about 9, as cells of 9 x 18 pixels have."""
    return columns if terminal is Terminal.BLOCKS else columns * _CELL_WIDTH


def show(picture: Picture, terminal: Terminal) -> str:
    """`picture` as the text that makes `terminal` show it, pixel by pixel (see `pixel_width`).

    Returns:
        Ends with a line break; empty for `Terminal.NONE`.
    """
    if terminal is Terminal.NONE:
        return ""
    if terminal is Terminal.BLOCKS:
        return half_blocks(picture)
    return (sixel(picture) if terminal is Terminal.SIXEL else kitty(picture)) + "\n"


def half_blocks(picture: Picture) -> str:
    """Two pixels a character: `▀` with the upper pixel as its colour and the lower one as its background.

    Args:
        picture: (H, W, 3) uint8, shown pixel by pixel: W characters wide, ceil(H / 2) lines high.

    Returns:
        The lines, each ended by a colour reset and a line break. An odd last row has no background.
    """
    lines = []
    for top in range(0, picture.shape[0], 2):
        upper = picture[top].tolist()
        lower = picture[top + 1].tolist() if top + 1 < picture.shape[0] else [None] * len(upper)
        text, colours = [], None
        for above, below in zip(upper, lower, strict=True):
            if (above, below) != colours:
                behind = "49" if below is None else "48;2;{};{};{}".format(*below)
                text.append("\x1b[38;2;{};{};{};{}m".format(*above, behind))
                colours = (above, below)
            text.append("▀")
        lines.append("".join(text) + "\x1b[0m\n")
    return "".join(lines)


def kitty(picture: Picture) -> str:
    """One picture in kitty's graphics protocol: a PNG, transmitted and displayed, in chunks of base64.

    Each escape is `ESC _G keys ; payload ESC \\`; `m=1` says that more follow. `q=2` keeps the terminal from answering
    into the shell's input.
    """
    payload = base64.standard_b64encode(encode_png(picture)).decode()
    chunks = [payload[start : start + KITTY_CHUNK] for start in range(0, len(payload), KITTY_CHUNK)]
    text = []
    for position, chunk in enumerate(chunks):
        keys = "a=T,f=100,q=2," if position == 0 else ""
        text.append(f"\x1b_G{keys}m={int(position + 1 < len(chunks))};{chunk}\x1b\\")
    return "".join(text)


def sixel(picture: Picture, colours: int = 256) -> str:
    """One picture as sixel: a palette of at most `colours` colours, bands of six rows, runs compressed.

    Args:
        picture: (H, W, 3) uint8, shown pixel by pixel.
        colours: 2..256.

    Returns:
        `ESC P ... q` raster attributes, palette (in percent, as sixel has it), bands, `ESC \\`.
    """
    height, width = picture.shape[:2]
    paletted = Image.fromarray(picture).quantize(colours, dither=Image.Dither.FLOYDSTEINBERG)
    palette = np.asarray(paletted.getpalette(), np.float64).reshape(-1, 3)
    indices = np.asarray(paletted, np.uint8)
    text = [f'\x1bP0;1;0q"1;1;{width};{height}']
    for colour in np.unique(indices).tolist():
        red, green, blue = np.rint(palette[colour] / 255 * 100).astype(int).tolist()
        text.append(f"#{colour};2;{red};{green};{blue}")
    bits = (1 << np.arange(6, dtype=np.uint8))[:, np.newaxis]
    for top in range(0, height, 6):
        band = indices[top : top + 6]
        planes = []
        for colour in np.unique(band).tolist():
            # (w,) six-bit columns: the lowest bit is the uppermost row.
            columns = ((band == colour) * bits[: band.shape[0]]).sum(axis=0, dtype=np.uint8)
            planes.append(f"#{colour}{_runs(columns.tolist())}")
        text.append("$".join(planes) + "-")
    return "".join(text) + "\x1b\\"


def _runs(columns: list[int]) -> str:
    text, start = [], 0
    for position in range(1, len(columns) + 1):
        if position == len(columns) or columns[position] != columns[start]:
            length, symbol = position - start, chr(63 + columns[start])
            text.append(f"!{length}{symbol}" if length > 3 else symbol * length)
            start = position
    return "".join(text)
