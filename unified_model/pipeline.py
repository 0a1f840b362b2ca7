"""`UnifiedEditPipeline`: an instruction and reference images in, the edited image out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from schemas.errors import ConfigError
from unified_model.flow import resolution_mu
from unified_model.loading import Weights, load_for_inference
from unified_model.model import UnifiedEditModel
from unified_model.references import reference_pixels


class UnifiedEditPipeline:
    """Edits images with a model. The same call with the same seed gives the same image.

    Args:
        model: put on the wanted device by the caller.
    """

    def __init__(self, model: UnifiedEditModel) -> None:
        self.model = model.eval()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        weights: Weights | None = None,
        base: str | Path | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> UnifiedEditPipeline:
        """Load a model folder, a core folder or a training export (see `unified_model.loading`)."""
        return cls(load_for_inference(path, weights, base=base, dtype=dtype).to(device))

    @torch.no_grad()
    def __call__(
        self,
        instruction: str,
        references: Sequence[np.ndarray],
        height: int | None = None,
        width: int | None = None,
        steps: int = 28,
        seed: int = 0,
        guidance: float = 3.5,
        max_pixels: int = 1024 * 1024,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Edit.

        Args:
            references: (H, W, 3) uint8 RGB, upright; none makes an image from words alone.
            height, width: of the result, multiples of 16; the default is the first reference's size, shrunk to
                `max_pixels` where it is larger and rounded to multiples of 16. Without a reference both are needed.
            steps: Euler steps, at least 1.
            seed: of the starting noise, which is drawn on the CPU so that every device starts alike.
            guidance: distilled guidance scale, used only where the denoiser embeds one.
            max_pixels: cap on the default size.
            progress: called with (steps done, steps) after each step.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            ConfigError: a side that is missing or no multiple of 16, or fewer than one step.
            InputError: an empty instruction, or an image of another shape.
        """
        model = self.model
        if steps < 1:
            raise ConfigError("steps", steps, "must be at least 1", "28 is usual.")
        inputs = model.processor([instruction], [list(references)]).to(model.device)
        size = edit_size(references[0].shape[:2], model.size_multiple, max_pixels) if references else (0, 0)
        rows, columns = (height or size[0], width or size[1])
        for name, side in (("height", rows), ("width", columns)):
            if side < model.size_multiple or side % model.size_multiple:
                raise ConfigError(name, side, f"must be a positive multiple of {model.size_multiple}", "Round it.")
        features = model.features(inputs)
        pixels = reference_pixels(references, rows, columns).to(model.device)
        reference_latents = model.reference_latents(pixels, inputs.image_rows)
        shape = (1, model.codec.channels, rows // model.codec.stride, columns // model.codec.stride)
        noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
        latents = noise.to(model.device)
        tokens = shape[2] * shape[3] // model.core.denoiser.patch**2
        scheduler = timestep_schedule(model.scheduler.config, steps, tokens)
        for done, timestep in enumerate(scheduler.timesteps, start=1):
            times = (timestep / scheduler.config.num_train_timesteps).expand(1).to(model.device)
            velocity = model.core(latents, times, features, guidance, reference_latents)
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if progress is not None:
                progress(done, steps)
        image: np.ndarray = to_uint8(model.codec.decode(latents))[0]
        return image


def edit_size(size: tuple[int, ...], multiple: int, max_pixels: int) -> tuple[int, int]:
    """(height, width) near `size`, multiples of `multiple`, of at most `max_pixels` (save that no side is below one
    multiple), with the aspect ratio kept as nearly as rounding lets."""
    height, width = size
    shrink = min(1.0, math.sqrt(max_pixels / (height * width)))
    sides = [max(multiple, round(side * shrink / multiple) * multiple) for side in (height, width)]
    while sides[0] * sides[1] > max_pixels and max(sides) > multiple:
        sides[sides.index(max(sides))] -= multiple
    return sides[0], sides[1]


def timestep_schedule(config: Any, steps: int, tokens: int) -> FlowMatchEulerDiscreteScheduler:
    """A scheduler of its own for one image, its timesteps set; shifted by resolution where the config says so."""
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    sigmas = np.linspace(1.0, 1.0 / steps, steps)
    if not config.use_dynamic_shifting:
        scheduler.set_timesteps(sigmas=sigmas.tolist())
        return scheduler
    mu = resolution_mu(tokens, config.base_shift, config.max_shift, config.base_image_seq_len, config.max_image_seq_len)
    scheduler.set_timesteps(sigmas=sigmas.tolist(), mu=mu)
    return scheduler


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W) in -1..1, clamped -> (B, H, W, 3) uint8."""
    scaled = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()
