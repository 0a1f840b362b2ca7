"""The `tiny` preset: the real classes, small, with random weights. For tests and the demo; it knows nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from unified_model.codec import LatentCodec
from unified_model.conditioners import MlpConditioner, Widths
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.model import UnifiedEditModel
from unified_model.processor import EditProcessor
from unified_model.tiny_tokenizer import build_tiny_tokenizer, tokens_that_are_no_word
from unified_model.tiny_vae import build_tiny_vae, fit_vae
from unified_model.understanding import QwenSiglipTower
from unified_model.vlm_processor import ImageVLProcessor

VLM_WIDTH = 64
SIGLIP_WIDTH = 48
CONTEXT_WIDTH = 64
POOLED_WIDTH = 32
SIGLIP_SIDE = 64


def build_tiny(
    seed: int = 0,
    photographs: Sequence[np.ndarray] | None = None,
    fit_steps: int = 420,
    takes_reference_latents: bool = False,
) -> UnifiedEditModel:
    """A whole model of the real classes, about a million parameters, with random weights.

    Args:
        seed: decides every weight.
        photographs: (H, W, 3) uint8. With them the VAE, and nothing else, is fitted to reconstruct random crops of
            theirs, so that a decoded latent is a recognisable if blurred picture (about 21 dB, of a photograph it has
            not seen too); this takes about 15 seconds of one CPU core. It is no trained autoencoder: it has seen
            these photographs only. Without them the VAE stays random too, and decodes to mush.
        fit_steps: steps of that fit.
        takes_reference_latents: as in `UnifiedEditModel`.

    Returns:
        the model, on the CPU, float32.
    """
    tokenizer = build_tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vlm = build_tiny_vlm(tokenizer)
        siglip = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=SIGLIP_WIDTH,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=4,
                image_size=SIGLIP_SIDE,
                patch_size=16,
                vision_use_head=False,
            )
        )
        denoiser = FluxDenoiser(build_tiny_flux())
        conditioner = MlpConditioner.fresh(Widths(VLM_WIDTH, SIGLIP_WIDTH, CONTEXT_WIDTH, POOLED_WIDTH))
        vae: AutoencoderKL = build_tiny_vae()
        if photographs:
            fit_vae(vae, photographs, fit_steps, seed)
    processor = EditProcessor(
        ImageVLProcessor(
            Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112}), tokenizer
        ),
        SiglipImageProcessorPil(size={"height": SIGLIP_SIDE, "width": SIGLIP_SIDE}),
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    core = EditCore(conditioner, denoiser)
    return UnifiedEditModel(
        QwenSiglipTower(vlm, siglip),
        core,
        LatentCodec(vae),
        processor,
        scheduler,
        takes_reference_latents=takes_reference_latents,
    )


def build_tiny_flux(guidance_embeds: bool = False) -> FluxTransformer2DModel:
    """FLUX with two double and two single blocks, weights drawn from torch's global generator."""
    return FluxTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=CONTEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )


def build_tiny_vlm(tokenizer: PreTrainedTokenizerFast, layers: int = 2) -> Qwen2_5_VLForConditionalGeneration:
    """Qwen2.5-VL with two layers in its vision tower and `layers` in the language model, weights drawn from torch's
    global generator.

    Its generation settings make a random model's reply readable and finite: only whole words are spoken, words are not
    repeated for long, and from the twelfth token on the end of the reply grows likelier until it comes.
    """

    def token(text: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(text))

    config = Qwen2_5_VLConfig(
        text_config={
            "dtype": "float32",
            "vocab_size": len(tokenizer),
            "hidden_size": VLM_WIDTH,
            "intermediate_size": 128,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            "bos_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
        },
        vision_config={
            "dtype": "float32",
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": VLM_WIDTH,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    vlm = Qwen2_5_VLForConditionalGeneration(config)
    vlm.generation_config = GenerationConfig(
        bos_token_id=token("<|endoftext|>"),
        eos_token_id=token("<|im_end|>"),
        pad_token_id=token("<|endoftext|>"),
        do_sample=False,
        max_new_tokens=64,
        repetition_penalty=1.3,
        no_repeat_ngram_size=2,
        exponential_decay_length_penalty=(12, 1.6),
        suppress_tokens=tokens_that_are_no_word(tokenizer),
    )
    return vlm
