"""Parameter counts at the size of the released UniWorld-V1, on the meta device."""

from __future__ import annotations

import fnmatch

import torch
from diffusers import FluxTransformer2DModel
from torch import nn

from unified_model.conditioners import MlpConditioner, Widths
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser

STAGE_TWO = (
    "conditioner.siglip_connector.*",
    "conditioner.vlm_connector.*",
    "denoiser.transformer.transformer_blocks.*.attn.to_[qkv].*",
    "denoiser.transformer.transformer_blocks.*.attn.to_out.*",
    "denoiser.transformer.transformer_blocks.*.attn.norm_[qk].*",
    "denoiser.transformer.transformer_blocks.*.norm1.linear.*",
    "denoiser.transformer.single_transformer_blocks.*.attn.to_[qkv].*",
    "denoiser.transformer.single_transformer_blocks.*.attn.norm_[qk].*",
    "denoiser.transformer.single_transformer_blocks.*.norm.linear.*",
)


def count(module: nn.Module, patterns: tuple[str, ...] = ("*",)) -> int:
    return sum(
        parameter.numel()
        for name, parameter in module.named_parameters()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    )


def test_the_released_numbers_of_parameters() -> None:
    with torch.device("meta"):
        conditioner = MlpConditioner.fresh(Widths(vlm=3584, siglip=1152, context=4096, pooled=768))
        transformer = FluxTransformer2DModel(guidance_embeds=True)
    core = EditCore(conditioner, FluxDenoiser(transformer))
    assert count(core, ("conditioner.vlm_connector.*",)) == 94_388_224
    assert count(core, ("conditioner.siglip_connector.*",)) == 64_503_808
    assert round(count(transformer) / 1e9, 3) == 11.901
    assert round(count(core, STAGE_TWO) / 1e9, 3) == 4.105
