"""The understanding tower: what reads the instruction and looks at the references. Frozen."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unified_model.features import EditFeatures, EditInputs


class UnderstandingTower(Protocol):
    """Narrow interface of a tower: inputs in, features out, no gradient."""

    def __call__(self, inputs: EditInputs) -> EditFeatures:
        """The features of a batch, on the tower's device and in its dtype."""


class QwenSiglipTower(nn.Module):
    """Qwen2.5-VL's last hidden states and SigLIP's patch tokens (UniWorld-V1, arXiv:2506.03147, section 3).

    Args:
        vlm: a `Qwen2_5_VLForConditionalGeneration`; its language-model head is not run.
        siglip: a fixed-resolution SigLIP or SigLIP2 vision tower (`SiglipVisionModel`).
    """

    def __init__(self, vlm: Any, siglip: Any) -> None:
        super().__init__()
        self.vlm = vlm.requires_grad_(False).eval()
        self.siglip = siglip.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> QwenSiglipTower:
        """Stays in evaluation mode whatever `mode` is: the tower is frozen."""
        del mode
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, inputs: EditInputs) -> EditFeatures:
        """The features of a batch. `inputs` must lie on the tower's device."""
        seen = len(inputs.image_rows) > 0
        states = self.vlm.model(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            mm_token_type_ids=inputs.mm_token_type_ids,
            pixel_values=inputs.pixel_values if seen else None,
            image_grid_thw=inputs.image_grid_thw if seen else None,
            use_cache=False,
        ).last_hidden_state
        return EditFeatures(
            vlm_states=states,
            vlm_mask=inputs.attention_mask.bool(),
            siglip_tokens=self._siglip_tokens(inputs.siglip_pixels),
            image_rows=inputs.image_rows,
            image_positions=inputs.image_positions,
        )

    def _siglip_tokens(self, pixels: Tensor) -> Tensor:
        """(N, 3, R, R) -> (N, T, D), N = 0 too."""
        if not len(pixels):
            config = self.siglip.config
            patches = (config.image_size // config.patch_size) ** 2
            return pixels.new_zeros(0, patches, config.hidden_size, dtype=self.siglip.dtype)
        tokens: Tensor = self.siglip(pixel_values=pixels.to(self.siglip.dtype)).last_hidden_state
        return tokens
