"""The `ultraedit` source: UltraEdit (BleachNick/UltraEdit, UltraEdit_500k, UltraEdit_Region_Based_100k).

Layout: Parquet files of splits FreeForm_0, FreeForm_1, ... (or FreeForm; region-based: RegionBase) with
clip_sim_source, clip_sim_target, clip_sim_dir, clip_sim_image, dinov2_sim, ssim (float64), source_caption,
target_caption, idx (int64), edit_prompt (string), edit_object, source_image, edited_image, mask_image (images). These
names were verified on the data set's card, where free-form splits have mask_image and edit_object of type null;
edit_type was not seen there and is read where it stands. Licence CC BY 4.0, by the card.

Its mask says where the generating model was allowed to edit, and only region-based rows have one; so it is left out, or
kept beside the found mask by `keep_declared_mask`.
"""

from __future__ import annotations

from typing import ClassVar

from pipelines.sources.hub_pairs import HubLayout, HubPairs, HubPairsConfig
from schemas.config import Config


class UltraEditConfig(HubPairsConfig):
    """Config of the source `ultraedit`."""

    split: str | None = None
    """Which split: a name as FreeForm_0 or RegionBase, a pattern as FreeForm*, or null, the default, for all."""


class UltraEdit(HubPairs[UltraEditConfig]):
    """Rows of UltraEdit as pairs; `source_key` is idx."""

    name: ClassVar[str] = "ultraedit"
    config_class: ClassVar[type[Config]] = UltraEditConfig
    layout: ClassVar[HubLayout] = HubLayout(
        dataset="UltraEdit",
        licence="CC-BY-4.0",
        reference=("source_image",),
        target=("edited_image",),
        instruction=("edit_prompt",),
        edit_type="edit_type",
        declared_mask="mask_image",
        identity=("idx",),
        scores=("clip_sim_source", "clip_sim_target", "clip_sim_dir", "clip_sim_image", "dinov2_sim", "ssim"),
    )
