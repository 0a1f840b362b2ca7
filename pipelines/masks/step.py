"""The step `masks`: an edit pair becomes an edit sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field, ValidationInfo, field_validator, model_validator

from pipelines.masks.difference import Pixels
from pipelines.masks.recipe import MaskRecipe, MaskResult
from pipelines.masks.registry import make_recipe
from pipelines.masks.score import pooled_iou
from pipelines.step import RowStep
from schemas.atomic import canonical_json
from schemas.config import Config
from schemas.errors import RowRejected
from schemas.images import DEFAULT_MAX_PIXELS, HARD_MAX_PIXELS, decode_image, encode_mask, image_size
from schemas.masks import LATENT_STRIDE, MaskStatus
from schemas.records import EDIT_SAMPLE

MASK_PATH = "mask.png"
"""The name that a mask travels under."""
ASPECT_TOLERANCE = 0.01
"""A reference may be resized to the target where their aspect ratios agree within this share."""


class EditMasksConfig(Config):
    """Config of the step `masks`."""

    recipe: str = "robust"
    """Name of the mask recipe: a key of `pipelines.masks.registry.RECIPES`."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """The recipe's own parameters; those not given take the recipe's defaults, and all are kept here resolved."""
    max_pixels: int = Field(default=DEFAULT_MAX_PIXELS, ge=1, le=HARD_MAX_PIXELS)
    """Images with more pixels than this are rejected by their header, never decoded."""
    on_size_mismatch: Literal["reject", "resize_reference"] = "reject"
    """What to do where a reference and the target differ in size: reject the row, or resize the reference (Lanczos)
    to the target where the aspect ratios agree within 1 %."""
    keep_statuses: tuple[MaskStatus, ...] = (MaskStatus.OK, MaskStatus.GLOBAL)
    """Masks with another status are rejected, with the status as the reason."""
    compare: str | None = None
    """Another recipe whose mask, at its defaults, is built beside and not kept: its status, edited fraction and
    intersection over union with the mask (on the latent grid) are added to the evidence, under `compare`."""

    @field_validator("parameters")
    @classmethod
    def _resolve(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "recipe" not in info.data:  # It is no string, which is reported.
            return value
        resolved: dict[str, Any] = make_recipe(info.data["recipe"], value).parameters.as_json()
        return resolved

    @model_validator(mode="after")
    def _two_recipes(self) -> EditMasksConfig:
        if self.compare is None:
            return self
        other = make_recipe(self.compare, {})
        if (other.name, other.parameters.as_json()) == (self.recipe, self.parameters):
            raise ValueError(f"compare: '{self.compare}' with these parameters is the recipe itself")
        return self


class EditMasks(RowStep[EditMasksConfig]):
    """Adds the mask of what was edited, and rejects pairs whose mask says they are of no use.

    Reasons besides those of `schemas.images`: `reference_missing`, `size_mismatch`, `image_too_small`, and the mask
    statuses that `keep_statuses` leaves out (`unchanged`, `too_small`, ...). A pair rejected for its status leaves what
    its mask's columns would have held, the mask apart, as evidence in its outcome.
    """

    name: ClassVar[str] = "masks"
    version: ClassVar[int] = 2
    config_class: ClassVar[type[Config]] = EditMasksConfig
    needs: ClassVar[tuple[str, ...]] = ("references", "target")
    adds: ClassVar[pa.Schema] = pa.schema(
        [
            EDIT_SAMPLE.fields.field(column)
            for column in (
                "mask",
                "mask_status",
                "edited_fraction",
                "width",
                "height",
                "mask_recipe",
                "mask_recipe_version",
                "mask_parameters",
                "mask_confidence",
                "mask_evidence",
            )
        ]
    )

    def __init__(self, config: EditMasksConfig) -> None:
        super().__init__(config)
        self.recipe = make_recipe(config.recipe, config.parameters)
        self.other = None if config.compare is None else make_recipe(config.compare, {})
        self._parameters = canonical_json(config.parameters)

    def setup(self) -> None:
        """Keep OpenCV to one thread: cores are given out once, by whoever runs the steps."""
        cv2.setNumThreads(1)

    def identity(self) -> dict[str, Any]:
        """The config, and the versions of the recipes."""
        versions = [recipe.version for recipe in (self.recipe, self.other) if recipe is not None]
        return {**super().identity(), "recipe_versions": versions}

    def process_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Decode, compare, encode the mask."""
        references, target = self.decode_pair(row["references"], row["target"])
        result = self.recipe.build(references, target)
        evidence = dict(result.evidence)
        if self.other is not None:
            evidence["compare"] = comparison(result, self.other, self.other.build(references, target))
        height, width = result.mask.shape
        values = {
            "mask_status": result.status.value,
            "edited_fraction": result.edited_fraction,
            "width": width,
            "height": height,
            "mask_recipe": self.recipe.name,
            "mask_recipe_version": self.recipe.version,
            "mask_confidence": result.confidence,
        }
        if result.status not in self.config.keep_statuses:
            grounds = {**values, "mask_evidence": evidence or None}
            raise RowRejected(result.status.value, self._sentence(result), grounds)
        return {
            **values,
            "mask": {"bytes": encode_mask(result.mask), "path": MASK_PATH},
            "mask_parameters": self._parameters,
            "mask_evidence": canonical_json(evidence) if evidence else None,
        }

    def decode_pair(
        self, references: Sequence[Mapping[str, Any] | None] | None, target: Mapping[str, Any] | None
    ) -> tuple[list[Pixels], Pixels]:
        """The references and the target as pixels of one size, as the config treats sizes.

        Args:
            references, target: encoded images, as `struct<bytes, path>` values.

        Raises:
            RowRejected: as the class says, statuses apart.
        """
        if not references:
            raise RowRejected("reference_missing", "the pair has no reference image")
        limit = self.config.max_pixels
        encoded = [_bytes_of(image) for image in (*references, target)]
        # All headers before any pixel: a mismatch costs nothing.
        *reference_sizes, size = [image_size(data, max_pixels=limit) for data in encoded]
        if min(size) < LATENT_STRIDE:
            raise RowRejected(
                "image_too_small", f"the target has {size[0]} x {size[1]} pixels; a latent cell has {LATENT_STRIDE}"
            )
        for position, reference_size in enumerate(reference_sizes):
            self._check_size(position, reference_size, size)
        *pixels, target_pixels = [decode_image(data, max_pixels=limit) for data in encoded]
        return [_resized(image, size) for image in pixels], target_pixels

    def _check_size(self, position: int, reference: tuple[int, int], target: tuple[int, int]) -> None:
        if reference == target:
            return
        sizes = f"reference {position} has {reference[0]} x {reference[1]} pixels, the target {target[0]} x {target[1]}"
        if self.config.on_size_mismatch == "reject":
            raise RowRejected("size_mismatch", sizes)
        ratio = (reference[0] * target[1]) / (reference[1] * target[0])
        if abs(ratio - 1.0) > ASPECT_TOLERANCE:
            apart = f"their aspect ratios differ by {abs(ratio - 1.0):.1%}, at most {ASPECT_TOLERANCE:.0%} is resized"
            raise RowRejected("size_mismatch", f"{sizes}: {apart}")

    def _sentence(self, result: MaskResult) -> str:
        changed = float(np.mean(result.stages["threshold"]))
        return (
            f"mask status '{result.status.value}' by recipe '{self.recipe.name}': {changed:.4%} of the pixels differ, "
            f"the mask covers {result.edited_fraction:.4%} of the image"
        )


def comparison(result: MaskResult, recipe: MaskRecipe[Any], other: MaskResult) -> dict[str, Any]:
    """How the mask of another recipe stands to `result`, as plain values.

    Args:
        recipe: the other recipe; `other` is its mask of the same pair.

    Returns:
        `recipe`, `recipe_version`, `mask_status`, `edited_fraction` of the other mask, and `iou`: intersection over
        union of the two on the latent grid, in 0..1, 1 where both are empty.
    """
    return {
        "recipe": recipe.name,
        "recipe_version": recipe.version,
        "mask_status": other.status.value,
        "edited_fraction": round(other.edited_fraction, 6),
        "iou": round(pooled_iou(result.mask, other.mask), 6),
    }


def _bytes_of(image: Mapping[str, Any] | None) -> bytes | None:
    return image["bytes"] if image else None


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
