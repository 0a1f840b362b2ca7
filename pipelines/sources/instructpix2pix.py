"""The `instructpix2pix` source: InstructPix2Pix (timbrooks/instructpix2pix-clip-filtered).

Layout: `data/train-*-of-*.parquet` with original_prompt, original_image, edit_prompt, edited_prompt, edited_image; the
thousand samples of fusing/instructpix2pix-1000-samples call the first image input_image. Both spellings were verified
in published training scripts. The card's licence was not seen; rows carry a pointer to it, which `licence` overrides.
"""

from __future__ import annotations

from typing import ClassVar

from pipelines.sources.hub_pairs import HubLayout, HubPairs, HubPairsConfig
from schemas.config import Config


class InstructPix2PixConfig(HubPairsConfig):
    """Config of the source `instructpix2pix`."""


class InstructPix2Pix(HubPairs[InstructPix2PixConfig]):
    """Rows of InstructPix2Pix as pairs; `source_key` is FILE#ROW, since rows have no name."""

    name: ClassVar[str] = "instructpix2pix"
    config_class: ClassVar[type[Config]] = InstructPix2PixConfig
    layout: ClassVar[HubLayout] = HubLayout(
        dataset="InstructPix2Pix",
        licence="see the card of timbrooks/instructpix2pix-clip-filtered",
        reference=("original_image", "input_image"),
        target=("edited_image",),
        instruction=("edit_prompt",),
    )
