"""GPU memory of editing at release size (FLUX.1-dev, Qwen2.5-VL-7B, SigLIP2-so400m), in bf16, by `--offload` and
`--quantise-*`: weights, and with them what a pass of the DiT and the decoding of a picture of 1024 x 1024 pixels make.

    python benchmarks/edit_memory.py

Nothing is allocated and no GPU is used: the real classes run on torch's meta device, where a tensor has a size only.
What CUDA itself takes (about half a GiB) and what the allocator loses come on top. The peer is everything on the GPU.
"""

from __future__ import annotations

import torch

from trainer.measures.live_bytes import LiveBytes, kernels_of_a_run
from unified_model.features import Conditioning
from unified_model.footprint import edit_footprint
from unified_model.placement import Offload
from unified_model.quantisation import Bits
from unified_model.skeleton import Skeleton, release_skeleton

PROMPT = 330
"""Tokens of the VLM for one reference of 448 x 448 pixels and a sentence; SigLIP adds 1024."""

CHOICES: list[tuple[str, Offload, Bits, Bits]] = [
    ("everything on the GPU", "none", "none", "none"),
    ("--quantise-vlm 4bit", "none", "4bit", "none"),
    ("--offload parts", "parts", "none", "none"),
    ("--offload blocks", "blocks", "none", "none"),
    ("--offload blocks --quantise-vlm 4bit", "blocks", "4bit", "none"),
    ("--quantise-vlm 8bit --quantise-dit 8bit", "none", "8bit", "8bit"),
    ("--quantise-vlm 4bit --quantise-dit 4bit", "none", "4bit", "4bit"),
    ("--quantise-vlm 4bit --quantise-dit 4bit --offload parts", "parts", "4bit", "4bit"),
]


def one_pass(skeleton: Skeleton, side: int) -> int:
    """Bytes that a pass of the DiT makes at most for an image of side x side pixels, beside its weights."""
    denoiser, meta = skeleton.core.denoiser, torch.device("meta")
    cells = side // skeleton.codec.stride
    live = LiveBytes("meta", [*denoiser.parameters(), *denoiser.buffers()])
    with torch.no_grad(), live, kernels_of_a_run():
        latents = torch.empty(1, skeleton.codec.channels, cells, cells, device=meta)
        tokens = torch.empty(1, PROMPT + 1024, denoiser.context_width, dtype=torch.bfloat16, device=meta)
        pooled = torch.empty(1, denoiser.pooled_width, dtype=torch.bfloat16, device=meta)
        denoiser(latents, torch.empty(1, device=meta), Conditioning(tokens, None, pooled), 3.5)
    return live.peak


def one_decode(skeleton: Skeleton, side: int) -> int:
    """Bytes that the VAE makes at most while it decodes, beside its weights."""
    live = LiveBytes("meta", [*skeleton.codec.parameters(), *skeleton.codec.buffers()])
    cells = side // skeleton.codec.stride
    with live, kernels_of_a_run():
        skeleton.codec.decode(torch.empty(1, skeleton.codec.channels, cells, cells, device="meta"))
    return live.peak


def main() -> None:
    """Print the table."""
    skeleton = release_skeleton(torch.bfloat16)
    work = {side: {"DiT": one_pass(skeleton, side), "VAE": one_decode(skeleton, side)} for side in (512, 1024)}
    for side, made in work.items():
        print(f"{side} pixels: " + ", ".join(f"{name} makes {size / 2**30:.2f} GiB" for name, size in made.items()))
    whole = edit_footprint(skeleton).peak
    print(f"\n{'':58}{'weights':>12}{'at 1024 px':>12}{'ratio':>8}")
    for name, *options in CHOICES:
        footprint = edit_footprint(skeleton, *options)
        moments = [footprint.moments.get(part, 0) + made for part, made in work[1024].items()]
        peak = max(footprint.peak, footprint.stays + max(moments))
        print(f"{name:58}{footprint.peak / 2**30:8.1f} GiB{peak / 2**30:8.1f} GiB{footprint.peak / whole:8.2f}")


if __name__ == "__main__":
    main()
