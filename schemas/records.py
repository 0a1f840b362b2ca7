"""The three records that travel: `ImageRecord`, `EditPair`, `EditSample`.

Images travel as `struct<bytes, path>`, the layout that `datasets` shows as images; bytes are the original file's.
"""

from __future__ import annotations

import pyarrow as pa

from schemas.record import RecordSchema

IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""One encoded image: the original file's bytes, and the name it came under (its suffix tells the format)."""

CAPTION_TYPE = pa.struct(
    [
        pa.field("text", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("model", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("prompt_version", pa.int32()),
        pa.field("prompt_sha256", pa.string()),
    ]
)
"""One caption with what wrote it. `kind`: "long" or "short". `prompt`: the prompt file's name without suffix."""

KEY_FIELD = pa.field("key", pa.string(), nullable=False)
"""Content-derived sample id: 32 lower-case hexadecimal digits (see `schemas.keys`), so never a dot."""

IMAGE_RECORD = RecordSchema(
    "ImageRecord",
    1,
    pa.schema(
        [
            KEY_FIELD,
            pa.field("url", pa.string(), nullable=False),
            pa.field("caption", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("aesthetic", pa.float32()),
            pa.field("aesthetic_scale", pa.string()),
            pa.field("aesthetic_head", pa.string()),
            pa.field("watermark", pa.float32()),
            pa.field("unsafe", pa.float32()),
            pa.field("similarity", pa.float32()),
            pa.field("nsfw", pa.string()),
            pa.field("language", pa.string()),
            pa.field("source_key", pa.string()),
            pa.field("source", pa.string()),
            pa.field("licence", pa.string()),
            pa.field("sha256", pa.string()),
            pa.field("md5", pa.string()),
            pa.field("image", IMAGE_TYPE),
            pa.field("captions", pa.list_(CAPTION_TYPE)),
        ]
    ),
)
"""One LAION-style metadata row; `image` is null until it was fetched. `watermark`, `unsafe` in 0..1, `similarity` in
-1..1; `aesthetic` on `aesthetic_scale` ("laion_1_10" or "unit_0_1"), given by `aesthetic_head`; where these are null,
on the scale that the filter's config declares. `source_key`: the id the collection itself gave.
`sha256`, `md5`: hexadecimal, of the image's bytes as the collection declares them; once the image was fetched, `width`,
`height` and `sha256` are the image's own."""

EDIT_PAIR = RecordSchema(
    "EditPair",
    1,
    pa.schema(
        [
            KEY_FIELD,
            pa.field("references", pa.list_(IMAGE_TYPE), nullable=False),
            pa.field("target", IMAGE_TYPE, nullable=False),
            pa.field("instruction", pa.string(), nullable=False),
            pa.field("edit_type", pa.string()),
            pa.field("source", pa.string()),
            pa.field("licence", pa.string()),
            pa.field("source_key", pa.string()),
        ]
    ),
)
"""One or more reference images, the target image, and the instruction that leads from the ones to the other.
`source_key`: what finds the row in its data set again: the name that the collection gives it, or FILE#ROW; null in
records from before there was the column."""

EDIT_SAMPLE = RecordSchema(
    "EditSample",
    1,
    pa.schema(
        [
            *EDIT_PAIR.fields,
            pa.field("mask", IMAGE_TYPE, nullable=False),
            pa.field("mask_status", pa.string(), nullable=False),
            pa.field("edited_fraction", pa.float64(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("mask_recipe", pa.string(), nullable=False),
            pa.field("mask_recipe_version", pa.int32(), nullable=False),
            pa.field("mask_parameters", pa.string(), nullable=False),
            pa.field("mask_confidence", pa.float64()),
            pa.field("mask_evidence", pa.string()),
            pa.field("judge_scores", pa.map_(pa.string(), pa.float32())),
            pa.field("judge_evidence", pa.string()),
            pa.field("captions", pa.list_(CAPTION_TYPE)),
        ]
    ),
)
"""An `EditPair` with its mask: a 1-bit PNG of the upright target's size (`width` x `height` pixels), white = edited.
`edited_fraction` is counted at full resolution, in 0..1. `mask_parameters` is canonical JSON. `mask_confidence` in
0..1 and `mask_evidence` (canonical JSON: what the recipe measured and decided by) are null where a recipe has none.
`judge_scores`: score by name; `judge_evidence` (canonical JSON): which model and prompt gave them, and the reply."""
