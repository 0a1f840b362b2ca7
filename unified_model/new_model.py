"""A new model from published components: where a training starts that does not start from a trained model."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from transformers import CLIPTextModel, CLIPTokenizer

from schemas.config import Config
from unified_model.components import load_component, part_of
from unified_model.conditioners import MlpConditioner
from unified_model.config import UnifiedModelConfig
from unified_model.model import UnifiedEditModel
from unified_model.release.connectors import load_connectors
from unified_model.text_encoders import empty_pooled

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class NewModelConfig(Config):
    """A new model. Every place is a local folder or a hub name."""

    vlm: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    """Qwen2.5-VL of any size."""

    siglip: str = "google/siglip2-so400m-patch16-512"
    """Fixed-resolution SigLIP or SigLIP2 vision tower."""

    flux: str = "black-forest-labs/FLUX.1-dev"
    """FLUX.1 in the published layout: dev, schnell or Kontext."""

    conditioner: str = MlpConditioner.name
    """Name of the conditioner, which is new."""

    connector_weights: tuple[str, ...] = ()
    """Connectors trained elsewhere, as `unified_model.release.connectors` takes them."""

    seed: int = Field(default=0, ge=0)
    """Of the conditioner's weights."""

    text_encoders: bool = False
    """Whether CLIP and T5 become parts of the model. Without them it is conditioned on CLIP's pooled embedding of an
    empty text, as UniWorld-V1 in training."""

    t5_length: int = Field(default=512, ge=1)
    """Tokens that an instruction is cut or padded to for T5."""

    takes_reference_latents: bool = False
    """Whether the denoiser sees the references' latents beside the noisy ones, as FLUX.1 Kontext does."""

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the weights."""


def build_new_model(config: NewModelConfig) -> UnifiedEditModel:
    """Load the components and make the conditioner, on the CPU.

    Raises:
        InputError: a place is missing, or connector weights do not fit.
        ConfigError: components that do not fit each other.
    """
    flux = config.flux
    encoders: dict[str, object] = {}
    if config.text_encoders:
        encoders = {
            "clip": part_of(flux, "text_encoder"),
            "clip_tokenizer": part_of(flux, "tokenizer"),
            "t5": part_of(flux, "text_encoder_2"),
            "t5_tokenizer": part_of(flux, "tokenizer_2"),
            "t5_length": config.t5_length,
        }
    places = UnifiedModelConfig.model_validate(
        {
            "vlm": config.vlm,
            "siglip": config.siglip,
            "transformer": part_of(flux, "transformer"),
            "vae": part_of(flux, "vae"),
            "scheduler": part_of(flux, "scheduler"),
            "conditioner_kind": config.conditioner,
            "conditioner_seed": config.seed,
            "takes_reference_latents": config.takes_reference_latents,
            **encoders,
        }
    )
    clip_place, tokenizer_place = part_of(flux, "text_encoder"), part_of(flux, "tokenizer")
    model = UnifiedEditModel.from_components(places, DTYPES[config.dtype])
    load_connectors(model.core.conditioner, config.connector_weights)
    clip = model.text.clip or load_component(CLIPTextModel, clip_place, dtype=DTYPES[config.dtype])
    tokenizer = model.processor.text.clip or load_component(CLIPTokenizer, tokenizer_place)
    model.core.conditioner.remember_pooled(empty_pooled(clip, tokenizer))
    return model
