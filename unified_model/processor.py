"""Instructions and reference images -> `EditInputs`. The same object serves training and inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from schemas.errors import InputError
from unified_model.features import EditInputs
from unified_model.prompt import PROMPT_VERSION, PROMPTS, edit_messages, refuse_special_tokens
from unified_model.text_encoders import TextTokenizers
from unified_model.vlm_processor import ImageVLProcessor

MOST_ELONGATED = 200
"""Long side over short side, inclusive: Qwen2.5-VL's processor refuses longer images."""

USER_TURN = "<|im_start|>user"


class EditProcessor:
    """Builds the prompt, tokenises it and cuts the references into patches, on the CPU. Worker processes may hold one.

    Args:
        vlm_processor: tokenizer and image processor of the VLM.
        siglip_processor: image processor of the SigLIP tower.
        text: tokenizers of CLIP and T5, where the model has them.
        prompt_version: of the prompt that the model hears, one of `unified_model.prompt.PROMPTS`.
    """

    def __init__(
        self,
        vlm_processor: ImageVLProcessor,
        siglip_processor: Any,
        text: TextTokenizers | None = None,
        prompt_version: int = PROMPT_VERSION,
    ) -> None:
        self.vlm_processor = vlm_processor
        self.siglip_processor = siglip_processor
        self.text = text or TextTokenizers()
        self.prompt_version = prompt_version
        self.vision_end_id: int = vlm_processor.tokenizer.convert_tokens_to_ids("<|vision_end|>")
        self._special_tokens = sorted(
            token.content for token in vlm_processor.tokenizer.added_tokens_decoder.values() if token.special
        )

    def prompt(self, instruction: str | None, references: int) -> str:
        """The text of the prompt, with one image placeholder for each reference, ending where an answer would begin.

        Args and errors as `unified_model.prompt.edit_messages`; a special token in the instruction is refused too.
        """
        if instruction is not None:
            refuse_special_tokens(instruction, self._special_tokens)
        text: str = self.vlm_processor.apply_chat_template(
            edit_messages(instruction, references, self.prompt_version), tokenize=False, add_generation_prompt=True
        )
        # Qwen's template puts a system turn of its own where a chat has none.
        return text if PROMPTS[self.prompt_version].system is not None else text[text.index(USER_TURN) :]

    def __call__(self, instructions: Sequence[str | None], references: Sequence[Sequence[np.ndarray]]) -> EditInputs:
        """Inputs of the frozen towers for one batch.

        Args:
            instructions: one a row, B >= 1; None is a dropped instruction.
            references: the images of each row, in order; (H, W, 3) uint8 RGB, upright, of any sizes; rows may hold
                different numbers of them, and none.

        Raises:
            InputError: the lengths differ, an image has another shape or type, or an instruction is empty or holds a
                special token of the tokenizer.
        """
        if len(instructions) != len(references) or not instructions:
            raise InputError(
                "references",
                {"instructions": len(instructions), "rows of references": len(references)},
                "must be as many rows as instructions, at least one",
                "Give one list of images for each instruction.",
            )
        texts = [self.prompt(text, len(images)) for text, images in zip(instructions, references, strict=True)]
        images = [checked_reference(image) for row in references for image in row]
        vlm = self.vlm_processor(
            text=texts, images=images or None, padding=True, padding_side="right", return_mm_token_type_ids=True,
            return_tensors="pt", input_data_format="channels_last",
        )  # fmt: skip
        rows, positions = torch.nonzero(vlm["input_ids"] == self.vision_end_id, as_tuple=True)
        return EditInputs(
            input_ids=vlm["input_ids"],
            attention_mask=vlm["attention_mask"],
            mm_token_type_ids=vlm["mm_token_type_ids"],
            pixel_values=vlm["pixel_values"] if images else torch.zeros(0, self._patch_width),
            image_grid_thw=vlm["image_grid_thw"] if images else torch.zeros(0, 3, dtype=torch.long),
            siglip_pixels=self._siglip_pixels(images),
            image_rows=rows,
            image_positions=positions,
            clip_ids=self.text.clip_ids(instructions),
            t5_ids=self.text.t5_ids(instructions),
        )

    @property
    def _patch_width(self) -> int:
        """Values in one patch of the VLM: colours x frames x side x side."""
        image_processor = self.vlm_processor.image_processor
        return int(3 * image_processor.temporal_patch_size * image_processor.patch_size**2)

    def _siglip_pixels(self, images: list[np.ndarray]) -> torch.Tensor:
        if not images:
            size = self.siglip_processor.size
            return torch.zeros(0, 3, size["height"], size["width"])
        # Said outright, since three or four pixels could as well be channels.
        made = self.siglip_processor(images=images, return_tensors="pt", input_data_format="channels_last")
        pixels: torch.Tensor = made["pixel_values"]
        return pixels


def checked_reference(image: np.ndarray) -> np.ndarray:
    """The image itself.

    Raises:
        InputError: it is no (H, W, 3) uint8, or too elongated for the VLM's processor.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
            "reference image", f"{image.dtype} {image.shape}", "must be (H, W, 3) uint8", "Decode it to RGB first."
        )
    height, width = image.shape[:2]
    if max(height, width) > MOST_ELONGATED * min(height, width):
        raise InputError(
            "reference image", f"{width} x {height}", f"must not be longer than {MOST_ELONGATED} times its short side",
            "Crop it.",
        )  # fmt: skip
    return image
