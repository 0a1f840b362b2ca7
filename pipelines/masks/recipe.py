"""What a mask recipe is: the four steps in their order, with the recipe's own difference, parameters and verdict.

Shape legend: H, W pixels of the target; h, w latent cells.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Mask, Pixels, intersect, least
from schemas.config import Config
from schemas.masks import MaskStatus, edited_fraction

ParametersT = TypeVar("ParametersT", bound=Config)


@dataclass(frozen=True)
class Difference:
    """Step 1's outcome for one reference.

    Args:
        heat: (H, W) uint8, how different each pixel is.
        changed: (H, W) bool, what counts as different.
        verdict: what the pair is, where the comparison as a whole already tells: `global` or `misaligned`.
        evidence: how that came about, as plain values that JSON holds; later steps add theirs.
    """

    heat: Pixels
    changed: Mask
    verdict: MaskStatus | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """The final mask, its status, how sure that is in 0..1 (None: the recipe does not say), and the grounds."""

    mask: Mask
    status: MaskStatus
    confidence: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskResult:
    """A mask, what it says of its pair, and how it came about.

    Args:
        mask: (H, W) bool at full resolution, True = edited: what is stored.
        status: what the mask says of its pair.
        edited_fraction: f of `mask`, in 0..1.
        stages: name -> array, in the order of the four steps: the difference heat map (H, W) uint8; thresholded,
            dilated or closed, and filtered by components, each (H, W) bool; pooled (h, w) bool. With several
            references each is combined over them as the recipe says. A recipe that works on a reduced copy gives all
            but the pooled one at the copy's size.
        confidence: in 0..1, for a curator to sort by; None where the recipe does not say.
        evidence: what the recipe measured and decided by, as plain values that JSON holds; empty where it keeps none.
    """

    mask: Mask
    status: MaskStatus
    edited_fraction: float
    stages: Mapping[str, npt.NDArray[Any]]
    confidence: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


class MaskRecipe(ABC, Generic[ParametersT]):
    """Base of every recipe: a value, made of its parameters.

    Class variables:
        name: what a config says.
        version: integer >= 1; raise it when the same pair would get another mask.
        parameters_class: the typed parameters, each with a default.
        growth: what step 2 is called in `MaskResult.stages`.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    parameters_class: ClassVar[type[Config]]
    growth: ClassVar[str] = "dilation"

    def __init__(self, parameters: ParametersT) -> None:
        self.parameters = parameters

    @abstractmethod
    def difference(self, reference: Pixels, target: Pixels) -> Difference:
        """Step 1: the heat map, and what of it counts as different."""

    @abstractmethod
    def grow(self, changed: Mask) -> Mask:
        """Step 2: dilation or closing."""

    @abstractmethod
    def filter(self, grown: Mask, difference: Difference) -> Mask:
        """Step 3: the connected components that stay, of one reference."""

    @abstractmethod
    def judge(self, differences: Sequence[Difference], filtered: Mask) -> Judgement:
        """The final mask and its status.

        Args:
            differences: step 1's outcome for each reference.
            filtered: step 3's mask, combined over the references.
        """

    @abstractmethod
    def pool(self, mask: Mask) -> Mask:
        """Step 4: the mask on the latent grid, (h, w) bool."""

    def combine(self, masks: Sequence[Mask]) -> Mask:
        """One mask of those against each reference: where they all agree, unless the recipe says otherwise."""
        return intersect(masks)

    def combine_heat(self, heats: Sequence[Pixels]) -> Pixels:
        """One heat map of those against each reference, in keeping with `combine`."""
        return least(heats)

    def build(self, references: Sequence[Pixels], target: Pixels) -> MaskResult:
        """The mask of what was edited between the references and the target.

        Args:
            references: one or more (H, W, 3) uint8.
            target: (H, W, 3) uint8, at least 8 x 8 pixels.

        Raises:
            ValueError: no reference, or shapes or dtypes that differ.
        """
        check_images(references, target)
        differences = [self.difference(reference, target) for reference in references]
        grown = [self.grow(one.changed) for one in differences]
        filtered = self.combine([self.filter(mask, one) for mask, one in zip(grown, differences, strict=True)])
        judgement = self.judge(differences, filtered)
        stages = {
            "difference": self.combine_heat([one.heat for one in differences]),
            "threshold": self.combine([one.changed for one in differences]),
            self.growth: self.combine(grown),
            "components": filtered,
            "pooled": self.pool(judgement.mask),
        }
        fraction = edited_fraction(judgement.mask)
        return MaskResult(
            judgement.mask, judgement.status, fraction, stages, judgement.confidence, dict(judgement.evidence)
        )


def check_images(references: Sequence[Pixels], target: Pixels) -> None:
    """Refuse what no recipe can compare: see `MaskRecipe.build`."""
    if not references:
        raise ValueError("a mask needs at least one reference")
    for image in (*references, target):
        if image.shape != target.shape or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"images must be (H, W, 3) uint8 of one shape, not {image.shape} {image.dtype}")
