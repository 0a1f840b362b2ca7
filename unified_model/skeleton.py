"""A model's shapes without its weights: the real classes on torch's meta device, from configs alone.

It can be counted, walked through and run (for shapes), and takes no memory. Good for plans: how many parameters train,
how many FLOPs and bytes a step takes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from diffusers.utils import CONFIG_NAME
from torch import nn
from transformers import (
    AutoConfig,
    CLIPTextModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5EncoderModel,
)

from schemas.errors import InputError
from unified_model.card import read_card
from unified_model.checkpoint import checkpoint_folder, lineage_of
from unified_model.codec import LatentCodec
from unified_model.conditioners import CONDITIONERS, Conditioner, MlpConditioner, Widths
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.model import UnifiedEditModel
from unified_model.text_encoders import TextEncoders
from unified_model.understanding import QwenSiglipTower

T5_LENGTH = 512
RELEASE_PIXELS = (56 * 56, 448 * 448)


class Skeleton(nn.Module):
    """The parts of a `UnifiedEditModel` that hold parameters, all on the meta device.

    Attributes:
        tower, core, codec, text: as of a `UnifiedEditModel`.
        takes_reference_latents, t5_length: as of the model's card.
        vlm_pixels: least and largest area of a reference as the VLM sees it.
    """

    def __init__(
        self,
        tower: QwenSiglipTower,
        core: EditCore,
        codec: LatentCodec,
        text: TextEncoders | None = None,
        takes_reference_latents: bool = False,
        t5_length: int = T5_LENGTH,
        vlm_pixels: tuple[int, int] = RELEASE_PIXELS,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.core = core
        self.codec = codec
        self.text = text or TextEncoders()
        self.takes_reference_latents = takes_reference_latents
        self.t5_length = t5_length
        self.vlm_pixels = vlm_pixels

    @property
    def size_multiple(self) -> int:
        """As of a `UnifiedEditModel`."""
        return self.codec.stride * self.core.denoiser.patch


def skeleton_of_folder(path: str | Path, dtype: torch.dtype = torch.float32) -> Skeleton:
    """The skeleton of a saved model, or of an export; only its cards and config.json files are read.

    Raises:
        InputError: as `unified_model.loading.load_for_inference`, or a part without config.json.
    """
    folder = checkpoint_folder(path)
    origin = lineage_of(folder)
    card = read_card(folder)
    held = set(read_card(origin.whole).parts)
    with torch.device("meta"):
        vlm = Qwen2_5_VLForConditionalGeneration(_transformers_config(origin.whole / "vlm"))
        siglip = SiglipVisionModel(_transformers_config(origin.whole / "siglip"))
        clip = CLIPTextModel(_transformers_config(origin.whole / "clip")) if "clip" in held else None
        t5 = T5EncoderModel(_transformers_config(origin.whole / "t5")) if "t5" in held else None
        transformer = FluxTransformer2DModel.from_config(_config(origin.transformer / "transformer"))
        vae = AutoencoderKL.from_config(_config(origin.whole / "vae"))
        conditioner = _conditioner(origin.conditioner / "conditioner")
        skeleton = Skeleton(
            QwenSiglipTower(vlm, siglip),
            EditCore(conditioner, FluxDenoiser(transformer)),
            LatentCodec(vae),
            TextEncoders(clip, t5),
            card.takes_reference_latents,
            card.t5_length,
            _vlm_pixels(origin.whole / "processor"),
        )
    return _in_dtype(skeleton, dtype)


def release_skeleton(dtype: torch.dtype = torch.float32, device: str | torch.device = "meta") -> Skeleton:
    """The skeleton of the released UniWorld-V1: FLUX.1-dev, Qwen2.5-VL-7B, SigLIP2-so400m-patch16-512.

    Args:
        device: another than "meta" gives it random weights there, for measurements.
    """
    with torch.device(device):
        skeleton = Skeleton(
            QwenSiglipTower(
                Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**QWEN_7B)),
                SiglipVisionModel(SiglipVisionConfig(**SIGLIP2_SO400M)),
            ),
            EditCore(
                MlpConditioner.fresh(Widths(vlm=3584, siglip=1152, context=4096, pooled=768)),
                # What diffusers takes where nothing is said is FLUX.1-dev but for this.
                FluxDenoiser(FluxTransformer2DModel(guidance_embeds=True)),
            ),
            LatentCodec(AutoencoderKL(**FLUX_VAE)),
        )
    return _in_dtype(skeleton, dtype)


def skeleton_of_model(model: UnifiedEditModel) -> Skeleton:
    """A loaded model under the same names; its parameters are shared."""
    return Skeleton(
        model.tower,
        model.core,
        model.codec,
        model.text,
        model.takes_reference_latents,
        model.processor.text.t5_length,
    )


QWEN_7B: dict[str, Any] = {
    "text_config": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "tie_word_embeddings": False,
}
"""Qwen2.5-VL-7B-Instruct."""

SIGLIP2_SO400M: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 512,
    "patch_size": 16,
}
"""siglip2-so400m-patch16-512."""

FLUX_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
}
"""FLUX.1-dev's autoencoder."""


def _in_dtype(skeleton: Skeleton, dtype: torch.dtype) -> Skeleton:
    for parameter in skeleton.parameters():
        parameter.data = parameter.data.to(dtype)
    for buffer in skeleton.core.buffers():
        buffer.data = buffer.data.to(dtype)
    return skeleton


def _conditioner(folder: Path) -> Conditioner:
    values = _config(folder)
    known = {cls.__name__: cls for cls in CONDITIONERS.values()}
    name = values.get("_class_name")
    if name not in known:
        raise InputError("conditioner", name, f"must be one of {', '.join(known)}", "Register it in CONDITIONERS.")
    conditioner: Conditioner = known[name].from_config(values)
    return conditioner


def _vlm_pixels(folder: Path) -> tuple[int, int]:
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        raise InputError("model folder", str(folder), f"holds no {path.name}", "Copy the configs of processor/ there.")
    size = json.loads(path.read_text(encoding="utf-8"))["size"]
    return int(size["shortest_edge"]), int(size["longest_edge"])


def _transformers_config(folder: Path) -> Any:
    _config(folder)
    return AutoConfig.from_pretrained(str(folder))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise InputError("model folder", str(folder), f"holds no {CONFIG_NAME}", "Copy at least the configs there.")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
