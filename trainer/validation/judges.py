"""Measures of an edit that need weights of their own: LPIPS and CLIP, each where its weights are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer.config.validation import ValidationConfig
from trainer.validation.copying import Mask, Picture
from trainer.validation.lpips import Lpips
from unified_model.components import load_component

_LEAST_SIDE = 0.25
"""Side of what CLIP is shown, as a share of the picture's shorter side: less would be a blur of one colour."""


class ClipSimilarity:
    """Cosine of CLIP's embeddings of two pictures, cut to a square around a region.

    Args:
        source: folder or hub name of a CLIP model.

    Raises:
        InputError: there is none.
    """

    def __init__(self, source: str, device: torch.device) -> None:
        from transformers import AutoImageProcessor, CLIPVisionModelWithProjection

        self._processor = load_component(AutoImageProcessor, source, backend="pil")
        self._model: Any = load_component(CLIPVisionModelWithProjection, source).eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, one: Picture, other: Picture, mask: Mask) -> float | None:
        """In -1..1; None where the mask is empty.

        Args:
            one, other: (H, W, 3) uint8 RGB.
            mask: (H, W) bool.
        """
        if not mask.any():
            return None
        rows, columns = around(mask)
        cut = [picture[rows, columns] for picture in (one, other)]
        inputs = self._processor(images=cut, return_tensors="pt", input_data_format="channels_last")
        embeddings = self._model(inputs["pixel_values"].to(self._model.device)).image_embeds
        return float(torch.cosine_similarity(embeddings[0].double(), embeddings[1].double(), dim=0))


@dataclass(frozen=True)
class Judges:
    """What judges edits; None where its weights are not given."""

    lpips: Lpips | None = None
    clip: ClipSimilarity | None = None

    @classmethod
    def load(cls, validation: ValidationConfig, device: torch.device) -> Judges:
        """Those that a config names.

        Raises:
            InputError: weights are not there.
        """
        return cls(
            None if validation.lpips is None else Lpips.load(validation.lpips).to(device),
            None if validation.clip is None else ClipSimilarity(validation.clip, device),
        )


def around(mask: Mask) -> tuple[slice, slice]:
    """Rows and columns of the smallest square inside the picture that holds the mask, or all of its longer side, and is
    no smaller than a quarter of the picture.

    Args:
        mask: (H, W) bool, not empty.
    """
    spans = [(int(found.min()), int(found.max()) + 1) for found in np.nonzero(mask)]
    shorter = min(mask.shape)
    side = max(*(stop - start for start, stop in spans), int(np.ceil(_LEAST_SIDE * shorter)))
    cuts = []
    for (start, stop), length in zip(spans, mask.shape, strict=True):
        size = min(side, length)
        first = min(max(0, (start + stop - size) // 2), length - size)
        cuts.append(slice(first, first + size))
    return cuts[0], cuts[1]
