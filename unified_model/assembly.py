"""From the places of a model's components to the parts of a model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import nn
from transformers import (
    AutoImageProcessor,
    CLIPTextModel,
    CLIPTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    SiglipVisionModel,
    T5EncoderModel,
    T5Tokenizer,
)

from schemas.errors import ConfigError
from unified_model.card import OPTIONAL_PARTS, PARTS
from unified_model.codec import LatentCodec
from unified_model.components import load_component, locate
from unified_model.conditioners import CONDITIONERS, Conditioner, Widths, load_conditioner
from unified_model.config import UnifiedModelConfig
from unified_model.core import EditCore
from unified_model.denoiser import Denoiser, FluxDenoiser
from unified_model.processor import EditProcessor
from unified_model.quantisation import NOT_QUANTISED, Quantisation
from unified_model.text_encoders import TextEncoders, TextTokenizers
from unified_model.understanding import QwenSiglipTower
from unified_model.vlm_processor import load_vlm_processor

FLUX_SCHEDULER = {"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True}
"""FLUX.1-dev's scheduler, where a model names none."""


class Parts(NamedTuple):
    """The parts of a `UnifiedEditModel`, in the order in which it takes them."""

    tower: QwenSiglipTower
    core: EditCore
    codec: LatentCodec
    processor: EditProcessor
    scheduler: FlowMatchEulerDiscreteScheduler
    text: TextEncoders


def load_parts(config: UnifiedModelConfig, dtype: torch.dtype, quantisation: Quantisation = NOT_QUANTISED) -> Parts:
    """Load every component, with a fresh conditioner where the config names none.

    Raises:
        InputError: a component is no folder and no hub name, or bitsandbytes is missing.
        ConfigError: an unknown conditioner, components whose widths do not fit, or what `Quantisation.check` refuses.
    """
    quantisation.check()
    if config.conditioner_kind not in CONDITIONERS:
        raise ConfigError(
            "conditioner_kind", config.conditioner_kind, "is not known", f"Known: {', '.join(CONDITIONERS)}."
        )
    # Every local path is looked at before the first large file is read.
    for name, value in config:
        if name in (*PARTS, *OPTIONAL_PARTS, "clip_tokenizer", "t5_tokenizer") and value is not None:
            locate(value)
    processor = load_processor(config)
    tower = load_tower(config, dtype, quantisation)
    denoiser = FluxDenoiser(_transformer(config, dtype, quantisation))
    codec = load_codec(config, dtype)
    widths = Widths(
        tower.vlm.config.text_config.hidden_size,
        tower.siglip.config.hidden_size,
        denoiser.context_width,
        denoiser.pooled_width,
    )
    conditioner = _conditioner(config, widths, dtype)
    text = _text_encoders(config, denoiser, dtype, quantisation)
    if config.scheduler is not None:
        scheduler = load_component(FlowMatchEulerDiscreteScheduler, config.scheduler)
    else:
        scheduler = FlowMatchEulerDiscreteScheduler(**FLUX_SCHEDULER)
    core = EditCore(conditioner, denoiser)
    return Parts(tower, core, codec, processor, scheduler, text)


def load_processor(config: UnifiedModelConfig) -> EditProcessor:
    """What makes the frozen towers' inputs; reads no weights."""
    return EditProcessor(
        load_vlm_processor(config.processor or config.vlm, config.min_pixels, config.max_pixels),
        load_component(AutoImageProcessor, config.siglip_processor or config.siglip, backend="pil"),
        _text_tokenizers(config),
        config.prompt_version,
    )


def load_tower(
    config: UnifiedModelConfig, dtype: torch.dtype, quantisation: Quantisation = NOT_QUANTISED
) -> QwenSiglipTower:
    """The frozen understanding tower alone."""
    vlm = load_component(
        Qwen2_5_VLForConditionalGeneration, config.vlm, dtype=dtype, **quantisation.vlm_keywords(dtype)
    )
    return QwenSiglipTower(vlm, load_component(SiglipVisionModel, config.siglip, dtype=dtype))


def load_codec(config: UnifiedModelConfig, dtype: torch.dtype) -> LatentCodec:
    """The frozen VAE alone."""
    return LatentCodec(load_component(AutoencoderKL, config.vae, torch_dtype=dtype))


def _transformer(config: UnifiedModelConfig, dtype: torch.dtype, quantisation: Quantisation) -> FluxTransformer2DModel:
    keywords = quantisation.transformer_keywords(dtype)
    return load_component(FluxTransformer2DModel, config.transformer, torch_dtype=dtype, **keywords)


def _conditioner(config: UnifiedModelConfig, widths: Widths, dtype: torch.dtype) -> Conditioner:
    conditioner: Conditioner
    if config.conditioner is not None:
        conditioner = load_conditioner(config.conditioner, torch_dtype=dtype)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.conditioner_seed)
            conditioner = CONDITIONERS[config.conditioner_kind].fresh(widths)
            # diffusers' own `to` would warn of modules to be kept in float32, of which there are none.
            nn.Module.to(conditioner, dtype)
    if conditioner.widths != widths:
        raise ConfigError(
            "conditioner", conditioner.widths, f"must fit the other components: {widths}", "Choose parts that fit."
        )
    return conditioner


def _text_tokenizers(config: UnifiedModelConfig) -> TextTokenizers:
    clip = load_component(CLIPTokenizer, config.clip_tokenizer or config.clip) if config.clip else None
    t5 = load_component(T5Tokenizer, config.t5_tokenizer or config.t5) if config.t5 else None
    return TextTokenizers(clip, t5, config.t5_length)


def _text_encoders(
    config: UnifiedModelConfig, denoiser: Denoiser, dtype: torch.dtype, quantisation: Quantisation
) -> TextEncoders:
    clip = load_component(CLIPTextModel, config.clip, dtype=dtype) if config.clip else None
    t5_keywords = {"dtype": dtype} | quantisation.vlm_keywords(dtype)
    t5 = load_component(T5EncoderModel, config.t5, **t5_keywords) if config.t5 else None
    for name, encoder, width in (("clip", clip, denoiser.pooled_width), ("t5", t5, denoiser.context_width)):
        if encoder is not None and encoder.config.hidden_size != width:
            raise ConfigError(
                name, encoder.config.hidden_size, f"must be {width} wide for this transformer", "Choose one that fits."
            )
    return TextEncoders(clip, t5)
