"""The denoiser: noisy latents, time and conditioning in, velocity out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from schemas.errors import ConfigError
from unified_model.features import Conditioning, ReferenceLatents


class Denoiser(nn.Module, ABC):
    """Base of every denoiser.

    Class variables:
        patch: latents are cut into patch x patch squares, so their height and width must be multiples of it.

    Attributes:
        transformer: the diffusers model that is saved under `transformer/`.
    """

    patch: ClassVar[int]
    transformer: Any

    @property
    @abstractmethod
    def context_width(self) -> int:
        """Width of the conditioning's tokens."""

    @property
    @abstractmethod
    def pooled_width(self) -> int:
        """Width of the conditioning's pooled vector."""

    @abstractmethod
    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        guidance: float | None = None,
        reference_latents: ReferenceLatents | None = None,
    ) -> Tensor:
        """The predicted velocity, noise - latent.

        Args:
            latents: (B, C, h, w) noisy latents.
            timesteps: (B,) in [0, 1]; 1 is pure noise.
            guidance: distilled guidance scale, used only where the network embeds one; None means 1.
            reference_latents: clean latents that the network sees beside the noisy ones; of any even height and width.

        Returns:
            (B, C, h, w), in the dtype of `latents`.
        """


class FluxDenoiser(Denoiser):
    """FLUX (diffusers' `FluxTransformer2DModel`), with 2x2 patches of the latents as its tokens.

    Args:
        transformer: a `FluxTransformer2DModel`.
    """

    patch: ClassVar[int] = 2

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @property
    def context_width(self) -> int:
        """Width of the conditioning's tokens."""
        return int(self.transformer.config.joint_attention_dim)

    @property
    def pooled_width(self) -> int:
        """Width of the conditioning's pooled vector."""
        return int(self.transformer.config.pooled_projection_dim)

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        guidance: float | None = None,
        reference_latents: ReferenceLatents | None = None,
    ) -> Tensor:
        """As `Denoiser.forward`. Padding is masked out of every attention; without padding there is no mask.

        References are joined to the image's tokens behind the noisy ones, as in FLUX.1 Kontext (arXiv:2506.15742, 3.1).
        """
        batch, channels, height, width = latents.shape
        dtype = self.transformer.x_embedder.weight.dtype
        tokens, ids = pack_latents(latents), latent_ids(height // 2, width // 2, latents.device)
        noisy, reference_mask = tokens.shape[1], None
        if reference_latents is not None and len(reference_latents):
            placed, reference_mask, reference_ids = place_references(reference_latents, batch)
            tokens, ids = torch.cat((tokens, placed.to(tokens)), dim=1), torch.cat((ids, reference_ids))
        context = conditioning.tokens.to(dtype)
        scale = None
        if self.transformer.config.guidance_embeds:
            scale = torch.full((batch,), 1.0 if guidance is None else guidance, device=latents.device)
        (velocity,) = self.transformer(
            hidden_states=tokens.to(dtype),
            encoder_hidden_states=context,
            pooled_projections=conditioning.pooled.to(dtype),
            timestep=timesteps,
            img_ids=ids,
            txt_ids=torch.zeros(context.shape[1], 3, device=latents.device),
            guidance=scale,
            joint_attention_kwargs=_attention(context, conditioning.mask, tokens, noisy, reference_mask),
            return_dict=False,
        )
        return unpack_latents(velocity[:, :noisy], channels, height, width).to(latents.dtype)


def _attention(
    context: Tensor, context_mask: Tensor | None, tokens: Tensor, noisy: int, reference_mask: Tensor | None
) -> dict[str, Tensor]:
    """The joint attention's mask over context, noisy tokens and references: (B, all), True at tokens; or none."""
    if context_mask is None and reference_mask is None:
        return {}
    mask = torch.ones(len(tokens), context.shape[1] + tokens.shape[1], dtype=torch.bool, device=tokens.device)
    if context_mask is not None:
        mask[:, : context.shape[1]] = context_mask
    if reference_mask is not None:
        mask[:, context.shape[1] + noisy :] = reference_mask
    return {"attention_mask": mask}


def place_references(references: ReferenceLatents, batch: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """References as tokens of their rows, each in a slot of its own; R is the largest number that a row holds.

    Returns:
        (B, R * h/2 * w/2, 4C) tokens, zero where a row has fewer references; (B, R * h/2 * w/2) bool, True at tokens,
        or None where every row has R; and (R * h/2 * w/2, 3) positions, whose first coordinate is 1, 2, ... R and so
        tells references from each other and from the noisy latents, which have 0.
    """
    rows = references.rows
    packed = pack_latents(references.latents)
    each, width = packed.shape[1:]
    counts = torch.bincount(rows, minlength=batch)
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    most = int(counts.max())
    placed = packed.new_zeros(batch, most, each, width).index_put((rows, slots), packed)
    height, breadth = references.latents.shape[2:]
    ids = torch.cat([latent_ids(height // 2, breadth // 2, packed.device, image=slot) for slot in range(1, most + 1)])
    mask = None
    if int(counts.min()) < most:
        held = torch.arange(most, device=rows.device) < counts[:, None]
        mask = held.repeat_interleave(each, dim=1)
    return placed.flatten(1, 2), mask, ids


def pack_latents(latents: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h/2 * w/2, 4C): row by row; within a token the channel is slowest, then dy, then dx.

    Raises:
        ConfigError: h or w is odd.
    """
    batch, channels, height, width = latents.shape
    if height % 2 or width % 2:
        raise ConfigError(
            "latents", tuple(latents.shape), "must have an even height and width", "Use image sides that divide by 16."
        )
    squares = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(batch, height // 2 * (width // 2), channels * 4)


def unpack_latents(tokens: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Inverse of `pack_latents`: (B, h/2 * w/2, 4C) -> (B, C, h, w)."""
    squares = tokens.view(tokens.shape[0], height // 2, width // 2, channels, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(tokens.shape[0], channels, height, width)


def latent_ids(rows: int, columns: int, device: torch.device, image: int = 0) -> Tensor:
    """(rows * columns, 3) float32 positions for the rotary embedding: image, row, column; 0 is the noisy image."""
    row, column = torch.meshgrid(
        torch.arange(rows, device=device, dtype=torch.float32),
        torch.arange(columns, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack((torch.full_like(row, image), row, column), dim=-1).view(-1, 3)
