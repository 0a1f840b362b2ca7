"""`UnifiedEditPipeline`: instructions and reference images in, edited images out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from schemas.errors import ConfigError
from unified_model.core import join_text
from unified_model.guidance import GuidancePass, guidance_passes
from unified_model.loading import Weights, load_for_inference
from unified_model.model import UnifiedEditModel
from unified_model.placement import Offload, Placement
from unified_model.quantisation import Bits, Quantisation
from unified_model.references import reference_pixels
from unified_model.requests import MAX_PIXELS, EditRequest
from unified_model.sampling import OnStep, WeightedCondition, denoise, start_noise, timestep_schedule


class UnifiedEditPipeline:
    """Edits images with a model. The same call with the same seed gives the same image.

    Args:
        model: put on the wanted device by the caller, or by `placement`.
        placement: where its parts compute; None takes the device it is on.
    """

    def __init__(self, model: UnifiedEditModel, placement: Placement | None = None) -> None:
        self.model = model.eval()
        self._placement = placement or Placement(model, model.device)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        weights: Weights | None = None,
        base: str | Path | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        offload: Offload = "none",
        quantise_vlm: Bits = "none",
        quantise_transformer: Bits = "none",
    ) -> UnifiedEditPipeline:
        """Load a model folder, a core folder, an adapter or a training export (see `unified_model.loading`).

        Args:
            offload: what waits in the machine's memory while it does not compute (`unified_model.placement`).
            quantise_vlm, quantise_transformer: weights in 8 or 4 bits (`unified_model.quantisation`).

        Raises:
            InputError: a folder or a part is missing; bitsandbytes is asked for, and not installed.
            ConfigError: options that do not go together.
        """
        quantisation = Quantisation(quantise_vlm, quantise_transformer, str(device))
        model = load_for_inference(path, weights, base=base, dtype=dtype, quantisation=quantisation)
        return cls(model if offload != "none" else model.to(device), Placement(model, device, offload))

    def __call__(
        self,
        instruction: str,
        references: Sequence[np.ndarray],
        height: int | None = None,
        width: int | None = None,
        steps: int = 28,
        seed: int = 0,
        guidance: float = 3.5,
        max_pixels: int = MAX_PIXELS,
        progress: OnStep | None = None,
        text_guidance: float = 1.0,
        image_guidance: float = 1.0,
    ) -> np.ndarray:
        """Edit one image. Arguments and errors as `EditRequest` and `edit`.

        Returns:
            (height, width, 3) uint8 RGB.
        """
        (image,) = self.edit(
            [EditRequest(instruction, references, seed, height, width)],
            steps=steps,
            guidance=guidance,
            text_guidance=text_guidance,
            image_guidance=image_guidance,
            max_pixels=max_pixels,
            progress=progress,
        )
        return image

    @torch.no_grad()
    def edit(
        self,
        requests: Sequence[EditRequest],
        *,
        steps: int = 28,
        guidance: float = 3.5,
        text_guidance: float = 1.0,
        image_guidance: float = 1.0,
        max_pixels: int = MAX_PIXELS,
        progress: OnStep | None = None,
    ) -> list[np.ndarray]:
        """Edit several images at once, which must come to one size; each is as it would be alone, to rounding.

        Args:
            requests: at least one.
            steps: Euler steps, at least 1.
            guidance: distilled guidance scale, used only where the denoiser embeds one (FLUX.1-dev does).
            text_guidance, image_guidance: classifier-free guidance as in `unified_model.guidance`; 1 does not guide. A
                scale besides 1 costs a second pass of the denoiser, two different ones a third, and it means something
                only for a model that was trained with dropped instructions and images. Rows without references are
                guided by text alone.
            max_pixels: cap on the size where a request gives none.
            progress: called with (steps done, steps) after each step.

        Returns:
            one (height, width, 3) uint8 RGB a request, in order.

        Raises:
            ConfigError: requests of several sizes, a side that is missing or no multiple of 16, fewer than one step, or
                a scale out of range.
            InputError: an empty instruction, or an image of another shape.
        """
        model = self.model
        if steps < 1:
            raise ConfigError("steps", steps, "must be at least 1", "28 is usual.")
        passes = guidance_passes(text_guidance, image_guidance)
        sizes = sorted({request.size(model.size_multiple, max_pixels) for request in requests})
        if len(sizes) != 1:
            raise ConfigError("requests", sizes, "must be at least one, and come to one size", "Group them by size.")
        ((height, width),) = sizes
        conditions = [self._condition(requests, one, height, width) for one in passes]
        stride = model.codec.stride
        shape = (model.codec.channels, height // stride, width // stride)
        noise = start_noise(shape, [request.seed for request in requests]).to(self._placement.device)
        schedule = timestep_schedule(model.scheduler.config, steps, shape[1] * shape[2] // model.core.denoiser.patch**2)
        with self._placement.using(model.core.denoiser):
            latents = denoise(model.core.denoiser, conditions, noise, schedule, guidance, progress)
        with self._placement.using(model.codec):
            return list(to_uint8(model.codec.decode(latents)))

    def _condition(
        self, requests: Sequence[EditRequest], guided: GuidancePass, height: int, width: int
    ) -> WeightedCondition:
        """What a pass is conditioned on: the prompt of the same builder as in training, and the references' latents."""
        model, place = self.model, self._placement
        texts = [request.instruction if guided.text else None for request in requests]
        images = [list(request.references) if guided.images else [] for request in requests]
        inputs = model.processor(texts, images).to(place.device)
        with place.using(model.tower, model.text):
            features = model.features(inputs)
        with place.using(model.core.conditioner):
            conditioning = join_text(model.core.conditioner(features), features)
        pixels = reference_pixels([image for row in images for image in row], height, width).to(place.device)
        with place.using(model.codec):
            latents = model.reference_latents(pixels, inputs.image_rows)
        return WeightedCondition(guided.weight, conditioning, latents)


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W) in -1..1, clamped -> (B, H, W, 3) uint8."""
    scaled = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()
