"""What a mask recipe is: the four steps in their order, with the recipe's own difference, parameters and verdict.

Shape legend: H, W pixels of the target; h, w latent cells.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Mask, Pixels, intersect, least
from schemas.config import Config
from schemas.masks import MaskStatus, edited_fraction

ParametersT = TypeVar("ParametersT", bound=Config)


@dataclass(frozen=True)
class MaskResult:
    """A mask, what it says of its pair, and how it came about.

    Args:
        mask: (H, W) bool at full resolution, True = edited: what is stored.
        status: what the mask says of its pair.
        edited_fraction: f of `mask`, in 0..1.
        stages: name -> array, in the order of the four steps: the difference heat map (H, W) uint8; thresholded,
            dilated or closed, and filtered by components, each (H, W) bool; pooled (h, w) bool. With several
            references each is the intersection over them.
    """

    mask: Mask
    status: MaskStatus
    edited_fraction: float
    stages: Mapping[str, npt.NDArray[Any]]


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
    def difference(self, reference: Pixels, target: Pixels) -> tuple[Pixels, Mask]:
        """Step 1: the (H, W) uint8 heat map, and the (H, W) bool mask of what counts as different."""

    @abstractmethod
    def grow(self, changed: Mask) -> Mask:
        """Step 2: dilation or closing."""

    @abstractmethod
    def filter(self, grown: Mask) -> Mask:
        """Step 3: the connected components that stay."""

    @abstractmethod
    def judge(self, changed: Sequence[Mask], filtered: Mask) -> tuple[Mask, MaskStatus]:
        """The final mask and its status.

        Args:
            changed: step 1's mask for each reference.
            filtered: step 3's mask, intersected over the references.
        """

    @abstractmethod
    def pool(self, mask: Mask) -> Mask:
        """Step 4: the mask on the latent grid, (h, w) bool."""

    def build(self, references: Sequence[Pixels], target: Pixels) -> MaskResult:
        """The mask of what was edited between the references and the target.

        Args:
            references: one or more (H, W, 3) uint8.
            target: (H, W, 3) uint8, at least 8 x 8 pixels.

        Raises:
            ValueError: no reference, or shapes or dtypes that differ.
        """
        if not references:
            raise ValueError("a mask needs at least one reference")
        for image in (*references, target):
            if image.shape != target.shape or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ValueError(f"images must be (H, W, 3) uint8 of one shape, not {image.shape} {image.dtype}")
        heats, changed = zip(*(self.difference(reference, target) for reference in references), strict=True)
        grown = [self.grow(one) for one in changed]
        filtered = intersect([self.filter(one) for one in grown])
        mask, status = self.judge(changed, filtered)
        stages = {
            "difference": least(heats),
            "threshold": intersect(changed),
            self.growth: intersect(grown),
            "components": filtered,
            "pooled": self.pool(mask),
        }
        return MaskResult(mask, status, edited_fraction(mask), stages)
