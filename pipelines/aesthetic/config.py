"""Which model scores, and what an image must reach."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from schemas.config import Config

SCALES: dict[str, tuple[float, float]] = {"laion_1_10": (1.0, 10.0), "unit_0_1": (0.0, 1.0)}
"""Scale by name -> its lowest and highest bound, both inclusive; as the metadata filter's."""


class AestheticConfig(Config):
    """One score for each image, in the column `aesthetic`."""

    model: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """The CLIP model whose image embedding the head was trained on: a folder, or a name on the Hugging Face hub."""
    head: str = Field(min_length=1)
    """The head's weights (.pth, .pt, .bin or .safetensors): a file, a folder with one such file, or OWNER/NAME/FILE on
    the hub. LAION's published ones are sac+logos+ava1-l14-linearMSE.pth and sa_0_4_vit_l_14_linear.pth."""
    head_name: str | None = Field(default=None, min_length=1)
    """Name stored with each score; by default the file's, without its ending."""
    scale: Literal["laion_1_10", "unit_0_1"] = "laion_1_10"
    """Scale on which the head scores, stored with each score; LAION's heads score on 1 to 10."""
    min_aesthetic: float | None = None
    """Lowest score kept, inclusive, on `scale`; None keeps all. For a share of the best, follow with `quantile`."""
    column: str = "image"
    """The column of images, as struct<bytes, path>; for edit pairs "target"."""
    batch_size: int = Field(default=32, ge=1)
    """Images in one call of the model; halved where the GPU's memory does not hold them."""
    device: str = "auto"
    """A torch device; "auto" is cuda where there is one, else cpu."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the CLIP model; the head is always float32."""

    @model_validator(mode="after")
    def _bound_is_on_the_scale(self) -> AestheticConfig:
        low, high = SCALES[self.scale]
        if self.min_aesthetic is not None and not low <= self.min_aesthetic <= high:
            raise ValueError(
                f"min_aesthetic {self.min_aesthetic:g} lies outside the declared scale {self.scale} "
                f"({low:g} to {high:g})"
            )
        return self

    def stored_head(self) -> str:
        """The name stored with each score."""
        return self.head_name or Path(self.head).stem
