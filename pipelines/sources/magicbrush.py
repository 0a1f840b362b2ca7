"""The `magicbrush` source: MagicBrush (osunlp/MagicBrush), 10 thousand manual edits in turns.

Layout: `data/train-*-of-*.parquet` and `data/dev-*-of-*.parquet` with img_id (string), turn_index (int), source_img,
mask_img, target_img (images) and instruction (string); each turn is a row whose source_img is the target of the turn
before. Column and split names were verified in published code that loads the data set; licence CC BY 4.0. The test
split is not on the hub: its authors hand it out in a protected archive of another layout, which is not read here.

Its mask is what an annotator painted for the inpainting model, generously around the edit, not what changed; so it is
left out, or kept beside the found mask by `keep_declared_mask`.
"""

from __future__ import annotations

from typing import ClassVar

from pipelines.sources.hub_pairs import HubLayout, HubPairs, HubPairsConfig
from schemas.config import Config


class MagicBrushConfig(HubPairsConfig):
    """Config of the source `magicbrush`. `split`: train or dev."""


class MagicBrush(HubPairs[MagicBrushConfig]):
    """Each turn of MagicBrush as a pair; `source_key` is IMG_ID-TURN_INDEX."""

    name: ClassVar[str] = "magicbrush"
    config_class: ClassVar[type[Config]] = MagicBrushConfig
    layout: ClassVar[HubLayout] = HubLayout(
        dataset="MagicBrush",
        licence="CC-BY-4.0",
        reference=("source_img",),
        target=("target_img",),
        instruction=("instruction",),
        declared_mask="mask_img",
        identity=("img_id", "turn_index"),
    )
