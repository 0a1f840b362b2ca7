"""Parameter counts at the size of the released UniWorld-V1, on the meta device."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from unified_model.conditioners import MlpConditioner, Widths
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.release.keys import map_keys
from unified_model.release.layout import check_fit, read_layout
from unified_model.release.weights import StoredWeights

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


def test_the_release_itself_fits_the_table(tmp_path: Path) -> None:
    """Names, shapes and `config.json` of `LanguageBind/UniWorld-V1` at their real size, without a weight."""
    flux = {"guidance_embeds": True, "num_layers": 19, "num_single_layers": 38, "joint_attention_dim": 4096}
    qwen = {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "rope_theta": 1e6, "tie_word_embeddings": False,
        "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
        "vision_config": {"hidden_size": 1280, "out_hidden_size": 3584, "model_type": "qwen2_5_vl"},
    }  # fmt: skip
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**flux)
        vlm = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**qwen))
        projectors = {
            "denoise_projector": nn.Sequential(nn.Linear(3584, 12288), nn.SiLU(), nn.Linear(12288, 4096)),
            "siglip_projector": nn.Sequential(nn.Linear(1152, 12288), nn.SiLU(), nn.Linear(12288, 4096)),
            "vae_projector": nn.Sequential(nn.Linear(64, 3072), nn.SiLU(), nn.Linear(3072, 4096)),
        }
    published = {
        "visual.": vlm.model.visual,
        "model.": vlm.model.language_model,
        "lm_head.": vlm.lm_head,
        "denoise_tower.denoiser.": transformer,
        **{f"denoise_tower.{name}.": module for name, module in projectors.items()},
    }
    shapes = {
        prefix + name: tuple(value.shape)
        for prefix, module in published.items()
        for name, value in module.state_dict().items()
    }
    denoise_tower = {"denoiser_type": "flux", "denoiser_config": dict(transformer.config)}
    (tmp_path / "config.json").write_text(json.dumps({**qwen, "denoise_tower": denoise_tower}))
    weights = StoredWeights(tmp_path, shapes, dict.fromkeys(shapes, tmp_path))
    mapped = map_keys(shapes, "UniWorld-V1")
    layout = read_layout(tmp_path, weights, mapped)
    check_fit(layout, weights, mapped)
    parameters = {part: weights.elements(keys.values()) for part, keys in mapped.parts.items()}
    assert parameters["conditioner"] == 94_388_224 + 64_503_808
    assert round(parameters["transformer"] / 1e9, 3) == 11.901
    assert round(parameters["vlm"] / 1e9, 2) == 8.29
    assert sum(map(len, mapped.unread.values())) == 4
