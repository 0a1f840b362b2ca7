"""Pictures in a terminal: each encoding is decoded again here, by the protocol's own description."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from pipelines.preview.terminal import KITTY_CHUNK, Terminal, detect, half_blocks, kitty, pixel_width, show, sixel


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture with an edge, 45 x 62: neither side a multiple of six or two."""
    rows, columns = np.mgrid[0:45, 0:62]
    drawn = np.stack([columns * 4, rows * 5, 255 - columns * 2], axis=2).astype(np.uint8)
    drawn[10:30, 20:40] = (250, 20, 90)
    return drawn


def read_sixel(text: str) -> np.ndarray:
    """Decode a sixel picture to (H, W, 3); unset pixels are -1."""
    body = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    assert body is not None
    width, height = int(body[1]), int(body[2])
    canvas = np.full((height + 6, width, 3), -1, np.int64)
    palette: dict[int, tuple[int, ...]] = {}
    colour, x, y = 0, 0, 0
    for token in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)(.)|([?-~])|([$-])", body[3]):
        if token[1]:
            palette[int(token[1])] = tuple(round(int(part) * 2.55) for part in token.group(2, 3, 4))
        elif token[5]:
            colour = int(token[5])
        elif token[9]:
            x, y = 0, y + 6 * (token[9] == "-")
        else:
            length, bits = (int(token[6]), ord(token[7])) if token[6] else (1, ord(token[8]))
            for bit in range(6):
                if (bits - 63) >> bit & 1:
                    canvas[y + bit, x : x + length] = palette[colour]
            x += length
            assert x <= width
    assert len(palette) <= 256
    return canvas[:height]


def test_sixel_decodes_to_nearly_the_same_picture(picture: np.ndarray) -> None:
    decoded = read_sixel(sixel(picture))
    assert decoded.shape == picture.shape
    assert decoded.min() >= 0, "every pixel is set"
    assert np.abs(decoded - picture.astype(int)).mean() < 8


def test_kitty_chunks_are_well_formed_and_lossless() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    escapes = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(noise))
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in escapes) == kitty(noise)
    assert len(escapes) > 1
    assert escapes[0][0] == "a=T,f=100,q=2,m=1"
    assert [keys for keys, _ in escapes[1:]] == ["m=1"] * (len(escapes) - 2) + ["m=0"]
    assert all(len(data) <= KITTY_CHUNK and len(data) % 4 == 0 for _, data in escapes)
    decoded = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in escapes))))
    assert np.array_equal(np.asarray(decoded), noise)


def test_half_blocks_hold_two_rows_a_line_in_exact_colours(picture: np.ndarray) -> None:
    lines = half_blocks(picture).splitlines()
    assert len(lines) == 23
    for number, line in enumerate(lines):
        assert line.endswith("\x1b[0m")
        x, above, below = 0, None, None
        for token in re.finditer(r"\x1b\[38;2;(\d+);(\d+);(\d+);(?:48;2;(\d+);(\d+);(\d+)|49)m|▀", line):
            if token[0] != "▀":
                above = tuple(map(int, token.group(1, 2, 3)))
                below = tuple(map(int, token.group(4, 5, 6))) if token[4] else None
                continue
            assert above == tuple(picture[2 * number, x])
            assert below == (tuple(picture[2 * number + 1, x]) if 2 * number + 1 < 45 else None)
            x += 1
        assert x == 62


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty"}, Terminal.KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "3"}, Terminal.KITTY),
        ({"TERM": "xterm-ghostty"}, Terminal.KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, Terminal.KITTY),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "3", "TMUX": "/tmp/tmux"}, Terminal.BLOCKS),
        ({"TERM": "foot"}, Terminal.SIXEL),
        ({"TERM": "mlterm"}, Terminal.SIXEL),
        ({"TERM": "xterm-256color"}, Terminal.BLOCKS),
        ({"TERM": "dumb"}, Terminal.NONE),
        ({}, Terminal.BLOCKS),
    ],
)
def test_a_terminal_is_told_by_its_environment(environment: dict[str, str], expected: Terminal) -> None:
    assert detect(environment, is_terminal=True) is expected
    assert detect(environment, is_terminal=False) is Terminal.NONE


def test_what_is_shown_is_the_encoding_of_the_terminal(picture: np.ndarray) -> None:
    assert show(picture, Terminal.NONE) == ""
    assert show(picture, Terminal.BLOCKS) == half_blocks(picture)
    assert show(picture, Terminal.SIXEL) == sixel(picture) + "\n"
    assert show(picture, Terminal.KITTY) == kitty(picture) + "\n"
    assert pixel_width(Terminal.BLOCKS, 100) == 100 < pixel_width(Terminal.SIXEL, 100)
