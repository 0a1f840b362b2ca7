"""What recaptioning does, and with which model."""

from __future__ import annotations

from pipelines.vlm.config import GenerationConfig


class RecaptionConfig(GenerationConfig):
    """One caption for each image, appended to the column `captions`."""

    prompt: str = "caption_long.v1"
    """A prompt that comes with editmill (caption_long.v1, caption_short.v1), or the path of your own prompt file."""
    column: str = "image"
    """The column of images, as struct<bytes, path>; for edit pairs "target"."""
