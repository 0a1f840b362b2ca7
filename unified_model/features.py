"""What travels between the parts of the model.

Shape legend, used in every file of this package:
    B rows of a batch; N reference images over all rows (a row may have several, or none; N may be 0); L tokens of the
    VLM's prompt, padded; T SigLIP tokens an image; S tokens of the conditioning, padded; C, h, w latent channels,
    height and width; D a width.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

BatchT = TypeVar("BatchT", bound="TensorBatch")


class TensorBatch:
    """Base of the dataclasses below, whose fields are tensors or None."""

    def to(self: BatchT, *args: Any, **keywords: Any) -> BatchT:
        """Every tensor through `Tensor.to`; a dtype reaches floating-point tensors only."""
        return self._map(lambda tensor: _to(tensor, *args, **keywords))

    def pin_memory(self: BatchT) -> BatchT:
        """Every tensor in page-locked memory, for copies that do not wait."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self: BatchT, function: Any) -> BatchT:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{name: None if value is None else function(value) for name, value in values.items()})


@dataclass(frozen=True)
class EditInputs(TensorBatch):
    """Instructions and references as the frozen towers take them. Made by `EditProcessor`, on the CPU."""

    input_ids: Tensor
    """(B, L) int64, padded on the right."""
    attention_mask: Tensor
    """(B, L) int64: 1 a token, 0 padding."""
    mm_token_type_ids: Tensor
    """(B, L) integer: 0 text, 1 image. Without it the VLM silently takes other positions for image tokens."""
    pixel_values: Tensor
    """(patches of all images, D) float32: the VLM's patches, row after row, image after image."""
    image_grid_thw: Tensor
    """(N, 3) int64: patches of each image in time, height and width."""
    siglip_pixels: Tensor
    """(N, 3, R, R) float32: the references as SigLIP takes them, in the same order."""
    image_rows: Tensor
    """(N,) int64: the row that each image belongs to; does not decrease."""
    image_positions: Tensor
    """(N,) int64: index in L of the image's `<|vision_end|>`, before which its SigLIP tokens are placed."""
    clip_ids: Tensor | None = None
    """(B, 77) int64: the instruction as CLIP takes it; None where the model has no CLIP."""
    t5_ids: Tensor | None = None
    """(B, M) int64: the instruction as T5 takes it, padded to a fixed length; None where the model has no T5."""

    def __len__(self) -> int:
        return self.input_ids.shape[0]


@dataclass(frozen=True)
class EditFeatures(TensorBatch):
    """What the frozen towers make of `EditInputs`; everything a conditioner may use. Carries no gradient."""

    vlm_states: Tensor
    """(B, L, D of the VLM): last hidden states; rows of padding hold no meaning."""
    vlm_mask: Tensor
    """(B, L) bool: True at tokens, False at padding."""
    siglip_tokens: Tensor
    """(N, T, D of SigLIP)."""
    image_rows: Tensor
    """(N,) int64, as in `EditInputs`."""
    image_positions: Tensor
    """(N,) int64, as in `EditInputs`."""
    t5_tokens: Tensor | None = None
    """(B, M, D of the denoiser's context): T5's tokens of the instruction; None where the model has no T5."""
    pooled: Tensor | None = None
    """(B, D of the denoiser's pooled projection): CLIP's pooled instruction; None where the model has no CLIP."""

    def __len__(self) -> int:
        return self.vlm_states.shape[0]


@dataclass(frozen=True)
class Conditioning(TensorBatch):
    """What a conditioner hands to a denoiser."""

    tokens: Tensor
    """(B, S, D of the denoiser's context)."""
    mask: Tensor | None
    """(B, S) bool: True at tokens, False at padding; None where no row is padded."""
    pooled: Tensor
    """(B, D of the denoiser's pooled projection)."""


@dataclass(frozen=True)
class ReferenceLatents(TensorBatch):
    """References as clean latents, for a denoiser that sees them beside the noisy ones. All have one size."""

    latents: Tensor
    """(N, C, h, w), normalised as the target's."""
    rows: Tensor
    """(N,) int64: the row that each belongs to; does not decrease. Rows may hold different numbers, and none."""

    def __len__(self) -> int:
        return self.latents.shape[0]


def _to(tensor: Tensor, *args: Any, **keywords: Any) -> Tensor:
    if tensor.is_floating_point():
        return tensor.to(*args, **keywords)
    args = tuple(arg for arg in args if not isinstance(arg, torch.dtype))
    keywords = {name: value for name, value in keywords.items() if name != "dtype"}
    return tensor.to(*args, **keywords) if args or keywords else tensor
