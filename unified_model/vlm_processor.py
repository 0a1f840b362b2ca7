"""Qwen2.5-VL's processor for images only.

The library's own class insists on a video processor, which needs torchvision. Images are resized by Pillow on every
machine, so that a model sees the same pixels on a CPU and on a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLProcessor
from transformers.processing_utils import ProcessorMixin
from transformers.utils import cached_file

from schemas.errors import InputError
from unified_model.components import Located, load_component, locate, save_tokenizer

TEMPLATE_FILE = "chat_template.json"


class ImageVLProcessor(Qwen2_5_VLProcessor):
    """`Qwen2_5_VLProcessor` without videos. Its saved form is a tokenizer and an image processor side by side."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        self.image_token = "<|image_pad|>"
        self.video_token = "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(
            self, image_processor, tokenizer, chat_template=chat_template or getattr(tokenizer, "chat_template", None)
        )


def load_vlm_processor(
    source: str | Path | Located, min_pixels: int | None = None, max_pixels: int | None = None
) -> ImageVLProcessor:
    """The image-only processor in a folder or under a hub name (a released Qwen2.5-VL folder will do).

    Args:
        min_pixels, max_pixels: bounds of an image's area after the resize, in pixels; None keeps those saved.

    Raises:
        InputError: one of the two is missing, or there is no chat template.
    """
    image_processor = load_component(AutoImageProcessor, source, backend="pil")
    size = dict(image_processor.size)
    if min_pixels is not None:
        size["shortest_edge"] = min_pixels
    if max_pixels is not None:
        size["longest_edge"] = max_pixels
    image_processor.size = size
    tokenizer = load_component(AutoTokenizer, source)
    return ImageVLProcessor(image_processor, tokenizer, tokenizer.chat_template or _separate_template(source))


def _separate_template(source: str | Path | Located) -> str:
    """The chat template where a processor of 2025 keeps it, beside the tokenizer."""
    found = source if isinstance(source, Located) else locate(source)
    path = cached_file(
        found.name,
        TEMPLATE_FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **found.subfolder,
    )
    if path is None:
        raise InputError("vlm", found.name, "has no chat template", f"Put its {TEMPLATE_FILE} beside the tokenizer.")
    template: str = json.loads(Path(path).read_text(encoding="utf-8"))["chat_template"]
    return template


def save_vlm_processor(processor: ImageVLProcessor, path: Path) -> None:
    """Save the tokenizer (with its chat template) and the image processor into `path`, for plain Auto classes."""
    processor.tokenizer.chat_template = processor.chat_template
    save_tokenizer(processor.tokenizer, path)
    processor.image_processor.save_pretrained(str(path))
