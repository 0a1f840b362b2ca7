"""A sample as rows of pictures, drawn at the size at which a terminal shows them, so that a thin outline survives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.preview.card import EditLook, Panel
from pipelines.preview.overlay import mask_over
from pipelines.preview.picture import Picture, fit, montage, resize_to, shrink_bright, shrink_mask
from pipelines.preview.weight_view import colour_weights

_BLACK = (0, 0, 0)


@dataclass(frozen=True)
class StripRow:
    """Pictures side by side.

    Args:
        titles: of each picture, from left to right.
        step: pixels from the left edge of one picture to that of the next.
        picture: (H, W, 3) uint8, all of them.
    """

    titles: tuple[str, ...]
    step: int
    picture: Picture

    def heading(self, pixels: int) -> str:
        """The titles in one line of text, each over its picture, cut off where there is no room.

        Args:
            pixels: in a character.
        """
        line = ""
        for position, title in enumerate(self.titles):
            left, right = (round(self.step * at / pixels) for at in (position, position + 1))
            line = line.ljust(left) + title[: max(1, right - left - 1)]
        return line


def edit_strip(look: EditLook, top: float, width: int, columns: int = 4, with_steps: bool = False) -> list[StripRow]:
    """reference | target | mask over target | weight map, and where asked for the mask's steps: in a row of their own
    where one holds them, else before the weight map.

    Args:
        top: the bright end of the weight map's colours.
        width: of a row in pixels, gaps included; at least 4 a column.
        columns: pictures in a row.

    Returns:
        Rows no wider than `width`, whose pictures are all as large as the shrunken target; a target smaller than its
        place is not enlarged.
    """
    gap = max(1, width // 160)
    target = fit(look.target, 10**6, max(1, (width - (columns - 1) * gap) // columns), enlarge=False)
    height, panel = target.shape[:2]
    named = "reference" if len(look.references) == 1 else "references"
    pictures = [(named, montage(list(look.references), height, panel, gap, _BLACK)), ("target", target)]
    if look.mask is not None:
        pictures.append(("mask", mask_over(target, shrink_mask(look.mask, height, panel))))
    weights = []
    if look.weights is not None:
        weights.append(("weights", _cells_at(look.weights.weights, top, height, panel)))
    steps = [(step.title, _step_at(step, height, panel)) for step in look.steps] if with_steps else []
    if steps and columns >= max(len(steps), len(pictures) + len(weights)):
        rows = [pictures + weights, steps]
    else:
        pictures += steps + weights
        rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    return [
        StripRow(tuple(title for title, _ in row), panel + gap, side_by_side([picture for _, picture in row], gap))
        for row in rows
    ]


def panel_strip(panels: Sequence[Panel], width: int, columns: int) -> list[StripRow]:
    """Pictures of any sizes under their titles, each row as high as its highest.

    Args:
        width: of a row in pixels, gaps included; at least 4 a column.
        columns: pictures in a row.
    """
    gap = max(1, width // 160)
    box = max(1, (width - (columns - 1) * gap) // columns)
    rows = []
    for start in range(0, len(panels), columns):
        some = panels[start : start + columns]
        pictures = [fit(panel.picture, 2 * box, box, enlarge=False) for panel in some]
        height = max(picture.shape[0] for picture in pictures)
        padded = []
        for picture in pictures:
            canvas = np.zeros((height, box, 3), np.uint8)
            canvas[: picture.shape[0], : picture.shape[1]] = picture
            padded.append(canvas)
        rows.append(StripRow(tuple(panel.title for panel in some), box + gap, side_by_side(padded, gap)))
    return rows


def _step_at(step: Panel, height: int, width: int) -> Picture:
    """A step's picture at another size, small marks kept; the cells of a grid that grows are repeated."""
    smaller = min(height, step.picture.shape[0]), min(width, step.picture.shape[1])
    shrunk = shrink_bright(step.picture, *smaller)
    if step.is_grid:
        return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    return resize_to(shrunk, height, width)


def _cells_at(weights: npt.NDArray[np.float32], top: float, height: int, width: int) -> Picture:
    """The coloured grid at another size: cells are repeated where it grows; the heaviest wins where it shrinks."""
    shrunk_height, shrunk_width = min(height, weights.shape[0]), min(width, weights.shape[1])
    edited = shrink_mask(weights > 1.0, shrunk_height, shrunk_width)
    coloured = colour_weights(np.where(edited, weights.max(), 1.0), top)
    return np.asarray(cv2.resize(coloured, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def side_by_side(pictures: Sequence[Picture], gap: int) -> Picture:
    """Pictures of one height in a row on black, `gap` pixels between them."""
    parts: list[Picture] = []
    for position, picture in enumerate(pictures):
        if position:
            parts.append(np.zeros((picture.shape[0], gap, 3), np.uint8))
        parts.append(picture)
    return np.concatenate(parts, axis=1)
