"""Rectified-flow matching: timesteps, noising and the target. Shape legend: B samples; C channels; h, w latent cells.

Liu et al., "Flow Straight and Fast" (arXiv:2209.03003); timesteps as in Esser et al., "Scaling Rectified Flow
Transformers" (arXiv:2403.03206): logit-normal, shifted with the resolution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from trainer.config import TimestepConfig
from unified_model.flow import resolution_mu


def shift_mu(image_tokens: int, config: TimestepConfig) -> float:
    """mu, linear in the number of image tokens: `base_shift` at `base_tokens`, `max_shift` at `max_tokens`."""
    return resolution_mu(image_tokens, config.base_shift, config.max_shift, config.base_tokens, config.max_tokens)


def sample_timesteps(seed: int, positions: Sequence[int], image_tokens: int, config: TimestepConfig) -> torch.Tensor:
    """The noise level of each sample: 0 is the clean latent, 1 is noise.

    Args:
        seed: the run's seed.
        positions: the samples' positions in the run; each timestep depends on its own position only.

    Returns:
        (B,) float32 on the CPU, in (0, 1).
    """
    normals = torch.stack(
        [torch.randn((), generator=_generator(seed, place, "timestep"), dtype=torch.float64) for place in positions]
    )
    mu = shift_mu(image_tokens, config)
    # The published shift exp(mu) / (exp(mu) + 1/t - 1) of t = sigmoid(n), without the loss of digits near 0 and 1.
    return torch.sigmoid(config.mean + config.deviation * normals + mu).float()


def sample_noise(seed: int, positions: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise for each sample, which depends on its own position only.

    Args:
        shape: (C, h, w).

    Returns:
        (B, C, h, w) float32 on the CPU.
    """
    return torch.stack([torch.randn(*shape, generator=_generator(seed, position, "noise")) for position in positions])


def noised(latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """(1 - t) * latent + t * noise, the point at t on the straight line from latent to noise.

    Args:
        latents, noise: (B, C, h, w).
        timesteps: (B,) in [0, 1].
    """
    level = timesteps.to(latents.dtype).view(-1, 1, 1, 1)
    return (1.0 - level) * latents + level * noise


def velocity(latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What the model learns to predict: d noised / dt = noise - latent."""
    return noise - latents


def _generator(seed: int, position: int, purpose: str) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}/{position}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
