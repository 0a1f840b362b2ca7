"""Masks of the tuned pairs, as they are looked at, and how each stands to the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.tune.pairs import TunedPair
from pipelines.masks.recipe import MaskRecipe, MaskResult
from pipelines.masks.score import pooled_iou
from pipelines.preview.card import EditLook, percent
from pipelines.preview.look import built_look

SIDE = 480
"""Longest side of the pictures drawn, in pixels."""
COLUMNS = ("pair", "status", "edited", "w", "confidence", "IoU before", "instruction")
"""Headings of `Drawn.cells`."""


@dataclass(frozen=True)
class Drawn:
    """One pair with its mask.

    Args:
        look: what is shown.
        result: the mask.
        iou: intersection over union with the mask before, on the latent grid; None at the first time.
    """

    look: EditLook
    result: MaskResult
    iou: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """A line of the table, under `COLUMNS`."""
        look, weights = self.look, self.look.weights
        return (
            look.key[:10],
            look.status,
            percent(self.result.edited_fraction),
            "–" if weights is None else f"{weights.edited_weight:.2f}",
            "–" if look.confidence is None else f"{look.confidence:.2f}",
            "–" if self.iou is None else f"{self.iou:.3f}",
            look.instruction,
        )


def draw(
    pairs: Sequence[TunedPair],
    recipe: MaskRecipe[Any],
    before: Sequence[Drawn] | None,
    weighting: str,
    cap: float | None,
    with_steps: bool,
) -> list[Drawn]:
    """Mask every pair.

    Args:
        before: what was drawn of the same pairs before, or None.
        weighting, cap: as `schemas.weighting.region_weight`.
        with_steps: whether to draw the four steps too.
    """
    drawn = []
    for position, pair in enumerate(pairs):
        result = recipe.build(pair.references, pair.target)
        iou = None if before is None else pooled_iou(result.mask, before[position].result.mask)
        look = built_look(pair.row, pair.references, pair.target, result, recipe.name, weighting, cap, SIDE, with_steps)
        drawn.append(Drawn(look, result, iou))
    return drawn
