"""What recaptioning does, and with which model."""

from __future__ import annotations

from pipelines.vlm.repair import RepairConfig


class RecaptionConfig(RepairConfig):
    """Captions of each image, appended to the column `captions`."""

    prompt: str = "captions.v1"
    """A prompt that comes with editmill (captions.v1 asks for a short and a long caption at once, as JSON;
    caption_long.v1, caption_short.v1 for one, as plain text), or the path of your own prompt file."""
    column: str = "image"
    """The column of images, as struct<bytes, path>; for edit pairs "target"."""


class WriteInstructionsConfig(RepairConfig):
    """Edit type and instruction of pairs that lack the latter."""

    prompt: str = "write_instruction.v1"
    """The prompt that comes with editmill, or the path of your own prompt file."""
    rewrite: bool = False
    """Whether pairs that have an instruction get a new one, too."""
