"""A small `AutoencoderKL` of FLUX's shape (16 channels, 8x), and a short fit that makes it usable in a demo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor
from torch.nn import functional

CROP = 64
BATCH = 4
LONGEST_SIDE = 320
"""Photographs are halved until no side is longer: larger crops would cost more to shrink than to learn from."""
LEARNING_RATE = 2e-3
LOG_VARIANCE = -6.0
"""Of the posterior before the fit: nearly no noise, so that the decoder has something to decode from the start."""


def build_tiny_vae() -> AutoencoderKL:
    """The autoencoder with random weights, drawn from torch's global generator."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 32, 32),
        layers_per_block=1,
        latent_channels=16,
        # One group: the means of groups carry colour, and a normalisation by group would take it away.
        norm_num_groups=1,
        sample_size=64,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def fit_vae(vae: AutoencoderKL, photographs: Sequence[np.ndarray], steps: int, seed: int) -> float:
    """Fit `vae` in place to reconstruct random crops of `photographs`, and set its shift and scale to match.

    Colours are varied, so that those of other photographs come back too. Runs on one thread: the layers are too small
    for more, and sums do not depend on the machine's number of cores.

    Args:
        photographs: (H, W, 3) uint8; smaller ones than a crop are enlarged.
        steps: Adam steps of four 64 x 64 crops.
        seed: of the start, the crops, their colours and the posterior's noise.

    Returns:
        mean absolute error of the last reconstruction, in units of -1..1.
    """
    generator = torch.Generator().manual_seed(seed)
    images = [_resized(torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 127.5 - 1) for image in photographs]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _begin_linear(vae, generator)
        return _fit(vae, images, steps, generator)
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _begin_linear(vae: AutoencoderKL, generator: torch.Generator) -> None:
    """Begin near a linear pyramid of averages, from which a few hundred steps go further than from random weights."""
    for block in (module for module in vae.modules() if isinstance(module, ResnetBlock2D)):
        torch.nn.init.zeros_(block.conv2.weight)
        torch.nn.init.zeros_(block.conv2.bias)
        if block.conv_shortcut is not None:
            torch.nn.init.orthogonal_(block.conv_shortcut.weight, generator=generator)
            torch.nn.init.zeros_(block.conv_shortcut.bias)
    for sampler in (module for module in vae.modules() if isinstance(module, Downsample2D)):
        weight = sampler.conv.weight
        channels = weight.shape[0]
        mixing = torch.empty(channels, 4 * channels)
        torch.nn.init.orthogonal_(mixing, generator=generator)
        weight.zero_()
        weight[:, :, :2, :2] = torch.eye(channels)[:, :, None, None] / 4 + 0.15 * mixing.view(channels, channels, 2, 2)
        torch.nn.init.zeros_(sampler.conv.bias)
    for sampler in (module for module in vae.modules() if isinstance(module, Upsample2D)):
        torch.nn.init.dirac_(sampler.conv.weight)
        sampler.conv.weight += 0.02 * torch.randn(sampler.conv.weight.shape, generator=generator)
        torch.nn.init.zeros_(sampler.conv.bias)
    moments = vae.encoder.conv_out
    moments.weight[vae.config.latent_channels :] = 0
    moments.bias[vae.config.latent_channels :] = LOG_VARIANCE


def _fit(vae: AutoencoderKL, images: Sequence[Tensor], steps: int, generator: torch.Generator) -> float:
    vae.requires_grad_(True).train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(vae.parameters(), betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=LEARNING_RATE, total_steps=steps)
    error = float("nan")
    for _ in range(steps):
        crops = _recoloured(_crops(images, generator), generator).contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(crops).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        difference = decoded - crops
        # Hue and the mean colour of each latent's square count extra: a short fit would leave them for last.
        hue = difference - difference.mean(1, keepdim=True)
        mean_colour = functional.avg_pool2d(difference, 8).square().mean()
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        pixel = 2 * difference.square().mean() + 0.5 * difference.abs().mean()
        loss = pixel + 0.3 * hue.abs().mean() + mean_colour + 1e-5 * divergence
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 0.3)
        optimiser.step()
        schedule.step()
        error = float(difference.detach().abs().mean())
    vae.requires_grad_(False).eval().to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        latents = torch.cat([vae.encode(_crops(images, generator)).latent_dist.mode() for _ in range(16)])
    vae.register_to_config(shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std()))
    return error


def _resized(image: Tensor) -> Tensor:
    """`image` halved to `LONGEST_SIDE` at most, or enlarged to a crop at least."""
    while max(image.shape[1:]) > LONGEST_SIDE:
        image = functional.avg_pool2d(image, 2)
    shortest = min(image.shape[1:])
    if shortest >= CROP:
        return image
    return functional.interpolate(image[None], scale_factor=CROP / shortest + 1e-3, mode="bilinear")[0]


def _recoloured(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Each crop, by chance, with another saturation, contrast and tint, and now and then with its channels swapped."""

    def sometimes(change: Tensor, otherwise: float) -> Tensor:
        chosen = torch.rand((len(crops), 1, 1, 1), generator=generator) < 0.5
        return torch.where(chosen, change, otherwise)

    one = (len(crops), 1, 1, 1)
    grey = crops.mean(1, keepdim=True)
    saturation = sometimes(1.6 * torch.rand(one, generator=generator), 1.0)
    contrast = sometimes(0.5 + 0.7 * torch.rand(one, generator=generator), 1.0)
    tint = sometimes(0.3 * torch.randn((len(crops), 3, 1, 1), generator=generator), 0.0)
    recoloured = (grey + (crops - grey) * saturation) * contrast + tint
    for crop in recoloured:
        if torch.rand((), generator=generator) < 0.2:
            crop[:] = crop[torch.randperm(3, generator=generator)]
    return recoloured.clamp(-1, 1)


def _crops(images: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    crops = []
    for _ in range(BATCH):
        image = images[int(torch.randint(len(images), (), generator=generator))]
        largest = min(image.shape[1:])
        # Crops of many sizes, so that the fit sees both texture and whole objects.
        side = int(torch.randint(CROP, largest + 1, (), generator=generator))
        top = int(torch.randint(image.shape[1] - side + 1, (), generator=generator))
        left = int(torch.randint(image.shape[2] - side + 1, (), generator=generator))
        crop = image[None, :, top : top + side, left : left + side]
        crops.append(functional.interpolate(crop, (CROP, CROP), mode="area"))
    return torch.cat(crops)
