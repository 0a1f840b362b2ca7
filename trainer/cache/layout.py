"""Where a cache lies, and what one sample's record holds.

    PACKED.cache/IDENTITY/
        cache.json          what was stored, of which model and geometry; `finished` once every shard is in
        index.parquet       a row a sample: where its parts begin
        shards/SHARD.bin    the parts, as plain numbers; SHARD is the beginning of the shard's SHA-256
        shards/SHARD.json   the commit of a shard, with the hashes of its two files
        shards/SHARD.parquet  its rows of the index

Shape legend: C, h, w latent channels, height and width; R references; T SigLIP tokens an image; L tokens of a prompt; D
a width. A part is at its offset in the shard's file, values in the cache's type, little-endian:

    latents     the edited cells, h * w bytes of 0 or 1; the target's latents (C, h, w); where the model takes them,
                those of its references (R, C, h, w)
    siglip      (R, T, D)
    vlm_...     R int64, the position of each image's SigLIP tokens in the prompt; last hidden states (L, D)
"""

from __future__ import annotations

import pyarrow as pa

from trainer.data.dropping import Dropped

SUFFIX = ".cache"
CARD_NAME = "cache.json"
INDEX_NAME = "index.parquet"
SHARD_FOLDER = "shards"
NAME_LENGTH = 16
"""Hexadecimal digits of a shard's SHA-256 in file names."""

LATENTS, SIGLIP = "latents", "siglip"
VLM = {
    "vlm_whole": Dropped(text=False, image=False),
    "vlm_without_text": Dropped(text=True, image=False),
    "vlm_without_images": Dropped(text=False, image=True),
    "vlm_without_both": Dropped(text=True, image=True),
}
"""Part -> what was dropped of the prompt that the states are of."""
PARTS = (LATENTS, SIGLIP, *VLM)

INDEX = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("references", pa.int32(), nullable=False),
        *(pa.field(f"{part}_offset", pa.int64(), nullable=False) for part in PARTS),
        *(pa.field(f"{part}_tokens", pa.int32(), nullable=False) for part in VLM),
    ]
)
"""`width`, `height`: of the bucket, in pixels; offsets in bytes, -1 for a part that is not stored; tokens: L."""


def vlm_part(dropped: Dropped, references: int) -> str:
    """Which part holds the states of a row that lost something; one without references has none to lose."""
    image = dropped.image and references > 0
    return next(name for name, what in VLM.items() if what == Dropped(dropped.text, image))
