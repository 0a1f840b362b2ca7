"""The denoiser: noisy latents, time and conditioning in, velocity out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from schemas.errors import ConfigError
from unified_model.features import Conditioning


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
        self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, guidance: float | None = None
    ) -> Tensor:
        """The predicted velocity, noise - latent.

        Args:
            latents: (B, C, h, w) noisy latents.
            timesteps: (B,) in [0, 1]; 1 is pure noise.
            guidance: distilled guidance scale, used only where the network embeds one; None means 1.

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
        self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, guidance: float | None = None
    ) -> Tensor:
        """As `Denoiser.forward`. Padding of the conditioning is masked out of every attention."""
        batch, channels, height, width = latents.shape
        dtype = self.transformer.x_embedder.weight.dtype
        tokens = pack_latents(latents).to(dtype)
        context = conditioning.tokens.to(dtype)
        attention: dict[str, Tensor] = {}
        if conditioning.mask is not None:
            latent_mask = conditioning.mask.new_ones(batch, tokens.shape[1])
            attention = {"attention_mask": torch.cat((conditioning.mask, latent_mask), dim=1)}
        scale = None
        if self.transformer.config.guidance_embeds:
            scale = torch.full((batch,), 1.0 if guidance is None else guidance, device=latents.device)
        (velocity,) = self.transformer(
            hidden_states=tokens,
            encoder_hidden_states=context,
            pooled_projections=conditioning.pooled.to(dtype),
            timestep=timesteps,
            img_ids=latent_ids(height // 2, width // 2, latents.device),
            txt_ids=torch.zeros(context.shape[1], 3, device=latents.device),
            guidance=scale,
            joint_attention_kwargs=attention,
            return_dict=False,
        )
        return unpack_latents(velocity, channels, height, width).to(latents.dtype)


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


def latent_ids(rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows * columns, 3) float32 positions for the rotary embedding: 0, row, column."""
    row, column = torch.meshgrid(
        torch.arange(rows, device=device, dtype=torch.float32),
        torch.arange(columns, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack((torch.zeros_like(row), row, column), dim=-1).view(-1, 3)
