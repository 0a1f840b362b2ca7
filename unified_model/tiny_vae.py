"""A small `AutoencoderKL` of FLUX's shape (16 channels, 8x), and a short fit that makes it usable in a demo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor
from torch.nn import functional

CROP = 64
BATCH = 8


def build_tiny_vae() -> AutoencoderKL:
    """The autoencoder with random weights, drawn from torch's global generator."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 32, 32),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
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

    Runs on one thread: the layers are too small for more, and sums do not depend on the machine's number of cores.

    Args:
        photographs: (H, W, 3) uint8; smaller ones than a crop are enlarged.
        steps: Adam steps of eight 64 x 64 crops.
        seed: of the crops and of the posterior's noise.

    Returns:
        mean absolute error of the last reconstruction, in units of -1..1.
    """
    generator = torch.Generator().manual_seed(seed)
    images = [_enlarged(torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 127.5 - 1) for image in photographs]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _fit(vae, images, steps, generator)
    finally:
        torch.set_num_threads(threads)


def _fit(vae: AutoencoderKL, images: Sequence[Tensor], steps: int, generator: torch.Generator) -> float:
    vae.requires_grad_(True).train()
    # Residual branches that begin at zero: the network begins nearly linear, and a few hundred steps go further.
    for block in (module for module in vae.modules() if isinstance(module, ResnetBlock2D)):
        torch.nn.init.zeros_(block.conv2.weight)
        torch.nn.init.zeros_(block.conv2.bias)
    optimiser = torch.optim.AdamW(vae.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    error = float("nan")
    for _ in range(steps):
        crops = _crops(images, generator)
        posterior = vae.encode(crops).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        difference = decoded - crops
        # Hue and the mean colour of each latent's square count extra: a short fit would leave them for last.
        hue = difference - difference.mean(1, keepdim=True)
        mean_colour = functional.avg_pool2d(difference, 8).square().mean()
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        loss = difference.abs().mean() + 0.5 * hue.abs().mean() + mean_colour + 1e-5 * divergence
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        error = float(difference.detach().abs().mean())
    vae.requires_grad_(False).eval()
    with torch.no_grad():
        latents = torch.cat([vae.encode(_crops(images, generator)).latent_dist.mode() for _ in range(8)])
    vae.register_to_config(shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std()))
    return error


def _enlarged(image: Tensor) -> Tensor:
    shortest = min(image.shape[1:])
    if shortest >= CROP:
        return image
    return functional.interpolate(image[None], scale_factor=CROP / shortest + 1e-3, mode="bilinear")[0]


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
