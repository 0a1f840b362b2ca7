"""From noise to latents: the timesteps, and Euler's method along the guided velocity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from unified_model.denoiser import Denoiser
from unified_model.features import Conditioning, ReferenceLatents
from unified_model.flow import resolution_mu

OnStep = Callable[[int, int], None]
"""Called with (steps done, steps)."""


@dataclass(frozen=True)
class WeightedCondition:
    """What one pass of a step is conditioned on, and the pass's factor in the guided velocity."""

    weight: float
    conditioning: Conditioning
    reference_latents: ReferenceLatents | None


def denoise(
    denoiser: Denoiser,
    conditions: Sequence[WeightedCondition],
    noise: Tensor,
    scheduler: FlowMatchEulerDiscreteScheduler,
    guidance: float,
    progress: OnStep | None = None,
) -> Tensor:
    """Integrate from noise to latents.

    Args:
        conditions: of the same B rows; the passes are run one after the other, so that memory stays that of one.
        noise: (B, C, h, w) float32, on the denoiser's device.
        scheduler: with its timesteps set.
        guidance: as in `Denoiser.forward`.

    Returns:
        (B, C, h, w) float32.
    """
    latents, steps = noise, len(scheduler.timesteps)
    for done, timestep in enumerate(scheduler.timesteps, start=1):
        times = (timestep / scheduler.config.num_train_timesteps).expand(len(latents)).to(latents.device)
        parts = [
            denoiser(latents, times, one.conditioning, guidance, one.reference_latents) * one.weight
            for one in conditions
        ]
        latents = scheduler.step(torch.stack(parts).sum(0), timestep, latents, return_dict=False)[0]
        if progress is not None:
            progress(done, steps)
    return latents


def start_noise(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """(rows, *shape) float32: each row from its own seed, drawn on the CPU so that every device starts alike."""
    rows = [torch.randn(*shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)


def timestep_schedule(config: Any, steps: int, tokens: int) -> FlowMatchEulerDiscreteScheduler:
    """A scheduler of its own for one size, its timesteps set; shifted by resolution where the config says so."""
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    sigmas = np.linspace(1.0, 1.0 / steps, steps)
    if not config.use_dynamic_shifting:
        scheduler.set_timesteps(sigmas=sigmas.tolist())
        return scheduler
    mu = resolution_mu(tokens, config.base_shift, config.max_shift, config.base_image_seq_len, config.max_image_seq_len)
    scheduler.set_timesteps(sigmas=sigmas.tolist(), mu=mu)
    return scheduler
