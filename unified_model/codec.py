"""Pixels to normalised latents and back, through a frozen VAE."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LatentCodec(nn.Module):
    """diffusers' `AutoencoderKL` with its shift and scale applied, so that latents have about unit variance.

    Args:
        vae: the autoencoder; frozen here.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> LatentCodec:
        """Stays in evaluation mode whatever `mode` is: the VAE is frozen."""
        del mode
        super().train(False)
        return self

    @property
    def stride(self) -> int:
        """Pixels a latent spans in each direction (8 for FLUX)."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def channels(self) -> int:
        """Channels of a latent (16 for FLUX)."""
        return int(self.vae.config.latent_channels)

    @torch.no_grad()
    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Normalised latents of images.

        Args:
            pixels: (B, 3, H, W) in -1..1; H and W multiples of `stride`.
            generator: draws a sample of the posterior; without one, the posterior's mode is taken.

        Returns:
            (B, C, H / stride, W / stride) float32.
        """
        posterior = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist
        latents = posterior.mode() if generator is None else posterior.sample(generator)
        normalised: Tensor = (latents.float() - self._shift) * self._scale
        return normalised

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) normalised latents -> (B, 3, h * stride, w * stride) float32, about -1..1, not clamped."""
        plain = latents.float() / self._scale + self._shift
        decoded: Tensor = self.vae.decode(plain.to(self.vae.dtype)).sample
        return decoded.float()

    @property
    def _shift(self) -> float:
        return float(self.vae.config.shift_factor or 0.0)

    @property
    def _scale(self) -> float:
        return float(self.vae.config.scaling_factor)
