"""The `learner` preset: the real classes at a size that learns simple edits from nothing, for experiments.

No part is pretrained. The VLM has no layers, so that its states are its tokens' embeddings: random, but different for
every word, which is all that a connector needs to learn a small vocabulary. The references reach the denoiser as
latents beside the noisy ones (FLUX.1 Kontext, arXiv:2506.15742). The VAE is fitted to the pictures of the experiment,
and frozen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from pydantic import Field, field_validator
from transformers import SiglipVisionConfig, SiglipVisionModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from schemas.config import Config
from unified_model.codec import LatentCodec
from unified_model.conditioners import MlpConditioner, Widths
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.model import UnifiedEditModel
from unified_model.processor import EditProcessor
from unified_model.tiny import VLM_WIDTH, build_tiny_vlm
from unified_model.tiny_tokenizer import build_tiny_tokenizer
from unified_model.tiny_vae import build_tiny_vae, fit_vae
from unified_model.understanding import QwenSiglipTower
from unified_model.vlm_processor import ImageVLProcessor

HEAD = 32
"""Width of an attention head."""
_POOLED_WIDTH = 32
_LATENT_CHANNELS = 16
_SIGLIP_WIDTH = 32
_VLM_SIDE = 28
"""References as the VLM sees them: one token, since they reach the denoiser by another way."""
_PROMPT_VERSION = 2
"""Without a system turn: tokens that would be the same in every row."""
_SIGLIP_SIDE = 64


class LearnerConfig(Config):
    """Size of the learner."""

    width: int = Field(default=128, ge=HEAD)
    """Width of the denoiser and of its context, a multiple of 32."""
    double_blocks: int = Field(default=2, ge=1)
    """Blocks with streams of their own for text and image."""
    single_blocks: int = Field(default=4, ge=0)
    """Blocks with one stream."""
    vae_steps: int = Field(default=1500, ge=1)
    """Steps of the VAE's fit, about 30 milliseconds each on one core."""
    seed: int = Field(default=0, ge=0)
    """Decides every weight."""

    @field_validator("width")
    @classmethod
    def _whole_heads(cls, width: int) -> int:
        if width % HEAD:
            raise ValueError(f"must be a multiple of {HEAD}")
        return width


def build_learner(config: LearnerConfig, pictures: Sequence[np.ndarray], words: Sequence[str]) -> UnifiedEditModel:
    """A whole model, on the CPU, float32, to be trained with the stage `full`.

    Args:
        pictures: (H, W, 3) uint8, of the experiment; the VAE is fitted to them.
        words: the words of its instructions; each becomes one token.
    """
    tokenizer = build_tiny_tokenizer(words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        vlm = build_tiny_vlm(tokenizer, layers=0)
        siglip = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=_SIGLIP_WIDTH,
                intermediate_size=_SIGLIP_WIDTH,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=_SIGLIP_SIDE,
                patch_size=_SIGLIP_SIDE,
                vision_use_head=False,
            )
        )
        vae = build_tiny_vae()
        fit_vae(vae, pictures, config.vae_steps, config.seed)
    processor = EditProcessor(
        ImageVLProcessor(
            Qwen2VLImageProcessorPil(size={"shortest_edge": _VLM_SIDE**2, "longest_edge": _VLM_SIDE**2}), tokenizer
        ),
        SiglipImageProcessorPil(size={"height": _SIGLIP_SIDE, "width": _SIGLIP_SIDE}),
        prompt_version=_PROMPT_VERSION,
    )
    return UnifiedEditModel(
        QwenSiglipTower(vlm, siglip),
        _fresh_core(config, config.seed),
        LatentCodec(vae),
        processor,
        FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        takes_reference_latents=True,
    )


def with_fresh_core(model: UnifiedEditModel, config: LearnerConfig, seed: int) -> UnifiedEditModel:
    """A learner with the towers and the codec of `model`, and a core with weights of its own."""
    return UnifiedEditModel(
        model.tower,
        _fresh_core(config, seed),
        model.codec,
        model.processor,
        model.scheduler,
        takes_reference_latents=True,
    )


def _fresh_core(config: LearnerConfig, seed: int) -> EditCore:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = FluxTransformer2DModel(
            in_channels=_LATENT_CHANNELS * FluxDenoiser.patch**2,
            num_layers=config.double_blocks,
            num_single_layers=config.single_blocks,
            attention_head_dim=HEAD,
            num_attention_heads=config.width // HEAD,
            joint_attention_dim=config.width,
            pooled_projection_dim=_POOLED_WIDTH,
            guidance_embeds=False,
            axes_dims_rope=(8, 12, 12),
        )
        conditioner = MlpConditioner.fresh(Widths(VLM_WIDTH, _SIGLIP_WIDTH, config.width, _POOLED_WIDTH))
    return EditCore(conditioner, FluxDenoiser(transformer))
