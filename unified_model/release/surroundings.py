"""What the release does not hold and a model needs: processors, SigLIP, VAE, scheduler, and FLUX's text encoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    CLIPTextModel,
    CLIPTokenizer,
    SiglipVisionModel,
    T5EncoderModel,
    T5Tokenizer,
)

from schemas.errors import ConfigError
from unified_model.components import load_component, locate, part_of, save_tokenizer
from unified_model.conditioners import MlpConditioner
from unified_model.release.layout import ReleaseLayout
from unified_model.text_encoders import empty_pooled
from unified_model.vlm_processor import load_vlm_processor, save_vlm_processor

SIDE = 448
"""The release shows references to its VLM at an area of 448 x 448 pixels, whatever their size."""


@dataclass(frozen=True)
class Surroundings:
    """Where they come from.

    Args:
        release: folder of the release, which holds the VLM's tokenizer and image processor.
        siglip, flux: a local folder or a hub name.
        text_encoders: whether CLIP and T5 become parts of the model.
        dtype: of the weights that are written.
    """

    release: Path
    siglip: str
    flux: str
    text_encoders: bool
    dtype: torch.dtype


def check_surroundings(around: Surroundings, layout: ReleaseLayout) -> None:
    """Look at every place and width before anything is written.

    Raises:
        InputError: a place is missing, or holds no processor.
        ConfigError: SigLIP or CLIP has another width than the release needs.
    """
    locate(around.siglip)
    encoders = ("text_encoder_2", "tokenizer_2") if around.text_encoders else ()
    for name in ("vae", "scheduler", "text_encoder", "tokenizer", *encoders):
        locate(part_of(around.flux, name))
    load_vlm_processor(around.release)
    load_component(AutoImageProcessor, around.siglip, backend="pil")
    siglip = load_component(AutoConfig, around.siglip)
    clip = load_component(AutoConfig, part_of(around.flux, "text_encoder"))
    for field, found, needed in (
        ("siglip", getattr(siglip, "vision_config", siglip).hidden_size, layout.conditioner["siglip_width"]),
        ("flux", clip.hidden_size, layout.conditioner["pooled_width"]),
    ):
        if found != needed:
            raise ConfigError(
                field, found, f"must be {needed} wide for this release", "Name the one it was trained with."
            )


def write_surroundings(around: Surroundings, folder: Path, conditioner: MlpConditioner) -> None:
    """Write every part that the release does not hold, and the conditioner with CLIP's embedding of an empty text."""
    dtype = around.dtype
    processor = load_vlm_processor(around.release, SIDE * SIDE, SIDE * SIDE)
    for name in ("vlm", "processor"):
        (folder / name).mkdir(exist_ok=True)
        save_vlm_processor(processor, folder / name)
    image_processor = load_component(AutoImageProcessor, around.siglip, backend="pil")
    image_processor.save_pretrained(folder / "siglip_processor")
    load_component(SiglipVisionModel, around.siglip, dtype=dtype).save_pretrained(folder / "siglip")
    image_processor.save_pretrained(folder / "siglip")
    load_component(AutoencoderKL, part_of(around.flux, "vae"), torch_dtype=dtype).save_pretrained(folder / "vae")
    load_component(FlowMatchEulerDiscreteScheduler, part_of(around.flux, "scheduler")).save_pretrained(
        folder / "scheduler"
    )
    clip = load_component(CLIPTextModel, part_of(around.flux, "text_encoder"), dtype=dtype)
    clip_tokenizer = load_component(CLIPTokenizer, part_of(around.flux, "tokenizer"))
    conditioner.remember_pooled(empty_pooled(clip, clip_tokenizer))
    nn.Module.to(conditioner, dtype)
    conditioner.save_pretrained(folder / "conditioner")
    if around.text_encoders:
        _save_encoder(clip, clip_tokenizer, folder / "clip")
        t5 = load_component(T5EncoderModel, part_of(around.flux, "text_encoder_2"), dtype=dtype)
        _save_encoder(t5, load_component(T5Tokenizer, part_of(around.flux, "tokenizer_2")), folder / "t5")


def _save_encoder(encoder: Any, tokenizer: Any, folder: Path) -> None:
    encoder.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
