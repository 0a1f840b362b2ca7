"""Edits that a small model can learn from scratch: plain shapes on crops of photographs, named in few words.

Every lesson is a crop of a photograph with two plain shapes laid on it, and an edit of one of them, or of the whole
picture. Only the instruction tells which shape, and what is to happen to it. The changed region is known to the pixel,
and its share of the image is drawn from the bins of edited area that an evaluation reports: evenly, or as is asked.

Shape legend: S side of the square image in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from pipelines.synthesis.operations import grade
from pipelines.synthesis.regions import Mask, Pixels, position_in_words

LessonKind = Literal["recolour", "add", "remove", "texture", "brightness", "global"]
KINDS: tuple[LessonKind, ...] = get_args(LessonKind)

AREA_BINS: dict[str, tuple[float, float]] = {
    "under_1": (0.004, 0.0095),
    "1_to_5": (0.0105, 0.049),
    "5_to_20": (0.051, 0.19),
    "over_20": (0.21, 0.40),
    "global": (1.0, 1.0),
}
"""Bin -> range of the edited fraction that shapes are drawn for."""

PAINTS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 90, 210),
    "yellow": (240, 210, 40),
    "purple": (150, 60, 180),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "diamond")
_SIZES = {"under_1": "tiny", "1_to_5": "small", "5_to_20": "large", "over_20": "huge"}
_LOOKS = {
    "grey": ((1.0, 1.0, 1.0), 1.0),
    "darker": ((0.6, 0.6, 0.6), 1.0),
    "warmer": ((1.2, 1.0, 0.7), 1.0),
    "colder": ((0.7, 1.0, 1.2), 1.0),
}
_OTHER_AREA = (0.02, 0.06)
"""Share of the image that the shape has which is left alone."""


@dataclass(frozen=True)
class Lesson:
    """A pair whose edited region is known.

    Args:
        kind: the operation.
        area_bin: a key of `AREA_BINS`.
        reference, target: (S, S, 3) uint8, equal wherever `mask` is False.
        mask: (S, S) bool, True = edited: the whole shape, or everything.
        instruction: lower case, of a vocabulary of about forty words.
    """

    kind: LessonKind
    area_bin: str
    reference: Pixels
    target: Pixels
    mask: Mask
    instruction: str


@dataclass(frozen=True)
class _Shape:
    name: str
    paint: str
    region: Mask
    words: str
    """Where it lies and how large it is: "tiny circle at the top left"."""


def make_lesson(
    photographs: Sequence[Pixels], side: int, number: int, seed: int, area_bins: Sequence[str] = tuple(AREA_BINS)
) -> Lesson:
    """Lesson `number` of a series; the same arguments give the same lesson, whatever was made before.

    Bins and kinds take turns, so that any long enough run of numbers holds all kinds evenly, and bins as `area_bins`.

    Args:
        photographs: (H, W, 3) uint8 each, at least one.
        side: S, at least 32.
        area_bins: keys of `AREA_BINS` in the order of their turns; one that stands twice has two turns a round.

    Raises:
        ValueError: there is no photograph or no bin, or the side is too small.
        KeyError: a bin that there is not.
    """
    if not photographs or not area_bins or side < 32:
        raise ValueError(
            f"lessons need a photograph, a bin and a side of at least 32; {len(photographs)}, {len(area_bins)} and "
            f"{side} given"
        )
    random = np.random.default_rng([seed, number])
    area_bin = area_bins[number % len(area_bins)]
    ground = _crop(photographs[int(random.integers(len(photographs)))], side, random)
    if area_bin == "global":
        return _whole(ground, random)
    kinds = KINDS[:-1]
    kind = kinds[number // len(area_bins) % len(kinds)]
    shape, other = _two_shapes(side, area_bin, random)
    with_other = _painted(ground, other, PAINTS[other.paint])
    reference = target = _painted(with_other, shape, PAINTS[shape.paint])
    paint = _another(shape.paint, random)
    if kind == "recolour":
        target = _painted(with_other, shape, PAINTS[paint])
        instruction = f"paint the {shape.name} {paint}"
    elif kind == "add":
        reference, instruction = with_other, f"add a {shape.paint} {shape.words}"
    elif kind == "remove":
        target, instruction = with_other, f"remove the {shape.name}"
    elif kind == "texture":
        target, instruction = _striped(reference, shape, PAINTS[paint]), f"put {paint} stripes on the {shape.name}"
    else:
        # White has nowhere to go but down.
        word = "darker" if shape.paint == "white" else ("darker", "brighter")[int(random.integers(2))]
        target = _lit(reference, shape.region, word)
        instruction = f"make the {shape.name} {word}"
    return Lesson(kind, area_bin, reference, target, shape.region, instruction)


def _whole(ground: Pixels, random: np.random.Generator) -> Lesson:
    look = list(_LOOKS)[int(random.integers(len(_LOOKS)))]
    gains, gamma = _LOOKS[look]
    toned = ground if look != "grey" else np.repeat(cv2.cvtColor(ground, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    mask = np.ones(ground.shape[:2], np.bool_)
    return Lesson(
        "global", "global", ground, grade(np.asarray(toned, np.uint8), gains, gamma), mask, f"make everything {look}"
    )


def _crop(photograph: Pixels, side: int, random: np.random.Generator) -> Pixels:
    """A random square of between half and all of the photograph's shorter side, resized to (S, S, 3)."""
    height, width = photograph.shape[:2]
    window = int(random.integers(min(height, width) // 2, min(height, width) + 1))
    top = int(random.integers(0, height - window + 1))
    left = int(random.integers(0, width - window + 1))
    part = photograph[top : top + window, left : left + window]
    method = cv2.INTER_AREA if window > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (side, side), interpolation=method), dtype=np.uint8)


def _two_shapes(side: int, area_bin: str, random: np.random.Generator) -> tuple[_Shape, _Shape]:
    """The shape that the edit is about, and another one of another form that does not touch it where there is room."""
    first, second = random.permutation(len(SHAPES))[:2]
    shape = _shape(SHAPES[first], area_bin, side, random)
    other = shape
    for _ in range(30):
        other = _shape(SHAPES[second], "1_to_5", side, random, _OTHER_AREA)
        if not (other.region & shape.region).any():
            break
    # It lies below, and never shows inside the edit.
    return shape, _Shape(other.name, other.paint, other.region & ~shape.region, other.words)


def _shape(
    name: str, area_bin: str, side: int, random: np.random.Generator, area: tuple[float, float] | None = None
) -> _Shape:
    share = float(random.uniform(*(area or AREA_BINS[area_bin])))
    # Half the extent of each form for an area of share x S x S.
    extent = {"circle": 1 / np.sqrt(np.pi), "square": 0.5, "triangle": 1 / np.sqrt(2), "diamond": 1 / np.sqrt(2)}[name]
    reach = min(0.5, extent * np.sqrt(share))
    centre = random.uniform(reach, 1 - reach, size=2) if reach < 0.5 else np.array([0.5, 0.5])
    axis = (np.arange(side) + 0.5) / side
    x, y = (axis[None, :] - centre[0]) / reach, (axis[:, None] - centre[1]) / reach
    region = {
        "circle": np.hypot(x, y) <= 1,
        "square": np.maximum(np.abs(x), np.abs(y)) <= 1,
        "triangle": (np.abs(y) <= 1) & (np.abs(x) <= (y + 1) / 2),
        "diamond": np.abs(x) + np.abs(y) <= 1,
    }[name]
    paint = list(PAINTS)[int(random.integers(len(PAINTS)))]
    words = f"{_SIZES[area_bin]} {name} at the {position_in_words((float(centre[0]), float(centre[1])))}"
    return _Shape(name, paint, np.asarray(region, np.bool_), words)


def _painted(pixels: Pixels, shape: _Shape, colour: tuple[int, int, int]) -> Pixels:
    painted = pixels.copy()
    painted[shape.region] = colour
    return painted


def _striped(pixels: Pixels, shape: _Shape, colour: tuple[int, int, int]) -> Pixels:
    striped = pixels.copy()
    rows, columns = np.nonzero(shape.region)
    # A lone stripe would be no texture: four of them at least, each two pixels wide or wider.
    width = max(2, (int(rows.max()) - int(rows.min()) + 1) // 8)
    stripes = ((rows - rows.min()) // width) % 2 == 0
    striped[rows[stripes], columns[stripes]] = colour
    return striped


def _lit(pixels: Pixels, region: Mask, word: str) -> Pixels:
    lit = pixels.copy()
    gain, lift = {"darker": (0.45, 0.0), "brighter": (1.6, 30.0)}[word]
    lit[region] = np.clip(np.rint(pixels[region] * gain + lift), 0, 255).astype(np.uint8)
    return lit


def _another(paint: str, random: np.random.Generator) -> str:
    others = [name for name in PAINTS if name != paint]
    return others[int(random.integers(len(others)))]
