"""Known edits: a photograph, what became of it, the instruction, and the mask that is true by construction."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

import cv2
import numpy as np

from pipelines.synthesis.operations import (
    COLOURS,
    grade,
    mean_hue,
    paste,
    recolour,
    relight,
    remove,
    striped_ball,
)
from pipelines.synthesis.photographs import Photograph
from pipelines.synthesis.regions import Alpha, Mask, Pixels, blob, ellipse, feather, outline, position_in_words

EditKind = Literal["recolour", "insert", "remove", "relight", "two", "global", "unchanged", "tiny", "many"]
KINDS: tuple[EditKind, ...] = get_args(EditKind)

_EDIT_TYPES: dict[EditKind, str] = {
    "recolour": "color_alter",
    "insert": "add",
    "remove": "remove",
    "relight": "relight",
    "two": "compose",
    "global": "style",
    "unchanged": "none",
    "tiny": "add",
    "many": "add",
}
_GRADINGS = {
    "a warm sunset look": ((1.12, 0.94, 0.72), 0.85),
    "a cold winter look": ((0.76, 0.95, 1.15), 0.85),
    "a dark moonlit look": ((0.55, 0.65, 0.85), 1.25),
    "a faded film look": ((0.85, 0.80, 0.72), 0.60),
}
_LIGHTS = {
    "Cast a warm light on": (1.45, 1.22, 0.92),
    "Cast a cold light on": (0.95, 1.18, 1.45),
    "Put a deep shadow on": (0.45, 0.45, 0.50),
}
_REMOVABLE_SHARE = 0.06
"""Inpainting stays believable, and fast, up to about this share of the image."""

_ATTEMPTS = 30
"""How often a place is drawn anew for an object that should lie clear of another edit."""

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class KnownEdit:
    """A pair whose edited region is known.

    Args:
        kind: the operation.
        reference, target: (H, W, 3) uint8; equal wherever `mask` is False.
        mask: (H, W) bool, True where the operation acted on purpose, soft edges included.
        instruction: what a person would have asked for.
        edit_type: the edit's type, as public editing sets name it.
    """

    kind: EditKind
    reference: Pixels
    target: Pixels
    mask: Mask
    instruction: str
    edit_type: str


@dataclass(frozen=True)
class _Place:
    noun: str
    region: Mask


def make_edit(kind: EditKind, photograph: Photograph, seed: int, *, donor: Photograph | None = None) -> KnownEdit:
    """An edit of `kind` on `photograph`. The same arguments give the same edit.

    Args:
        photograph: at least 64 x 64 pixels. Its subjects, where it names some, are what the edit is about; otherwise
            the edit is about a blob somewhere.
        donor: for "insert": a photograph whose first subject is cut out and pasted; without one, a striped ball is.

    Raises:
        ValueError: the photograph is too small.
    """
    if min(photograph.pixels.shape[:2]) < 64:
        raise ValueError(f"photograph '{photograph.name}' has shape {photograph.pixels.shape}; 64 x 64 is the least")
    random = np.random.default_rng([seed, zlib.crc32(photograph.name.encode()), KINDS.index(kind)])
    reference = photograph.pixels
    if kind == "unchanged":
        target, mask = reference.copy(), np.zeros(reference.shape[:2], np.bool_)
        instruction = "Leave the photograph as it is."
    elif kind == "global":
        look, (gains, gamma) = _choose(_GRADINGS, random)
        target, mask = grade(reference, gains, gamma), np.ones(reference.shape[:2], np.bool_)
        instruction = f"Give the whole photograph {look}."
    elif kind == "remove":
        place = _place(photograph, random, _REMOVABLE_SHARE)
        mask = _grown(place.region, 3)
        target, instruction = remove(reference, mask), f"Remove {place.noun}."
    elif kind == "insert":
        target, alpha, what = _insert(photograph, donor, random, (0.2, 0.4))
        mask, instruction = alpha > 0, f"Add {what}."
    elif kind == "tiny":
        target, alpha, what = _insert(photograph, None, random, (0.08, 0.11))
        mask, instruction = alpha > 0, f"Add {what}."
    elif kind == "many":
        target, mask = _many(photograph, random)
        instruction = "Scatter striped balls all over the photograph."
    elif kind == "relight":
        place = _place(photograph, random, 0.5)
        words, light = _choose(_LIGHTS, random)
        alpha = feather(place.region, 8.0)
        target, mask = relight(reference, alpha, light), alpha > 0
        instruction = f"{words} {place.noun}."
    else:
        target, alpha, instruction = _recolour(photograph, random, least_share=0.05 if kind == "two" else 0.0)
        mask = alpha > 0
        if kind == "two":
            target, ball, what = _insert(replace(photograph, pixels=target), None, random, (0.05, 0.08), clear_of=mask)
            mask, instruction = mask | (ball > 0), f"{instruction[:-1]}, and add {what}."
    return KnownEdit(kind, reference, target, np.asarray(mask, np.bool_), instruction, _EDIT_TYPES[kind])


def _recolour(photograph: Photograph, random: np.random.Generator, least_share: float) -> tuple[Pixels, Alpha, str]:
    place = _place(photograph, random, 0.5, least_share)
    alpha = feather(place.region, float(random.choice([0.0, 3.0])))
    present = mean_hue(photograph.pixels, place.region)
    # A colour that cannot be taken for the one that is there.
    distinct = {
        name: hue for name, hue in COLOURS.items() if present is None or abs((hue - present + 180) % 360 - 180) >= 70
    }
    colour, hue = _choose(distinct, random)
    return recolour(photograph.pixels, alpha, hue), alpha, f"Recolour {place.noun} to {colour}."


def _insert(
    photograph: Photograph,
    donor: Photograph | None,
    random: np.random.Generator,
    share: tuple[float, float],
    clear_of: Mask | None = None,
) -> tuple[Pixels, Alpha, str]:
    """Lay an object somewhere; beside `clear_of` where a few attempts find room there.

    Args:
        share: the object's longer side as a share of the photograph's shorter side, between these two.
    """
    height, width = photograph.pixels.shape[:2]
    side = max(12, round(random.uniform(*share) * min(height, width)))
    if donor is not None and donor.subjects:
        patch, alpha = _cut_out(donor, side)
        what = _with_article(donor.subjects[0].noun.removeprefix("the "))
    else:
        colour, hue = _choose(COLOURS, random)
        patch, alpha = striped_ball(side, hue, random)
        what = _with_article(f"{'small ' if share[1] < 0.1 else ''}{colour} striped ball")
    for _ in range(_ATTEMPTS):
        top = int(random.integers(0, height - patch.shape[0] + 1))
        left = int(random.integers(0, width - patch.shape[1] + 1))
        if clear_of is None or not clear_of[top : top + patch.shape[0], left : left + patch.shape[1]].any():
            break
    target, laid = paste(photograph.pixels, patch, alpha, top, left)
    centre = ((left + patch.shape[1] / 2) / width, (top + patch.shape[0] / 2) / height)
    return target, laid, f"{what} at the {position_in_words(centre)}"


def _many(photograph: Photograph, random: np.random.Generator) -> tuple[Pixels, Mask]:
    """Six to twelve small objects of about one size, apart from each other where there is room."""
    pixels, mask = photograph.pixels, np.zeros(photograph.pixels.shape[:2], np.bool_)
    for _ in range(int(random.integers(6, 13))):
        taken = _grown(mask, 4)
        pixels, alpha, _ = _insert(replace(photograph, pixels=pixels), None, random, (0.08, 0.1), clear_of=taken)
        mask = mask | (alpha > 0)
    return pixels, mask


def _cut_out(donor: Photograph, side: int) -> tuple[Pixels, Alpha]:
    """The donor's first subject with its outline, its longer side `side` pixels."""
    subject = donor.subjects[0]
    region = outline(donor.pixels, ellipse(donor.pixels.shape[:2], subject.centre, subject.radii))
    rows, columns = np.nonzero(region.any(axis=1))[0], np.nonzero(region.any(axis=0))[0]
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    height, width = region[box].shape
    factor = side / max(height, width)
    size = (max(4, round(width * factor)), max(4, round(height * factor)))
    patch = cv2.resize(donor.pixels[box], size, interpolation=cv2.INTER_AREA)
    hard = cv2.resize(region[box].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(patch, np.uint8), feather(np.asarray(hard) > 0.5, 2.0)


def _place(
    photograph: Photograph, random: np.random.Generator, largest_share: float, least_share: float = 0.0
) -> _Place:
    """A subject of the photograph that covers such a share of it, or else a blob somewhere."""
    shape = photograph.pixels.shape[:2]
    fitting = [
        one for one in photograph.subjects if least_share <= np.pi * one.radii[0] * one.radii[1] <= largest_share
    ]
    if fitting:
        subject = fitting[int(random.integers(len(fitting)))]
        return _Place(subject.noun, outline(photograph.pixels, ellipse(shape, subject.centre, subject.radii)))
    reach = min(0.2, float(np.sqrt(largest_share / np.pi)) * 0.8)
    centre = (float(random.uniform(0.25, 0.75)), float(random.uniform(0.25, 0.75)))
    radii = (float(random.uniform(0.6, 1.0)) * reach, float(random.uniform(0.6, 1.0)) * reach)
    return _Place(f"what is at the {position_in_words(centre)}", blob(shape, centre, radii, random))


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _grown(region: Mask, by: int) -> Mask:
    return np.asarray(cv2.dilate(region.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)), np.bool_)


def _choose(options: dict[str, ValueT], random: np.random.Generator) -> tuple[str, ValueT]:
    name = list(options)[int(random.integers(len(options)))]
    return name, options[name]
