"""A small checkpoint in the layout of the UniWorld-V1 release: its names, its flat config, its shards with an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn

from unified_model.model import UnifiedEditModel
from unified_model.vlm_processor import save_vlm_processor


class Release(nn.Module):
    """Modules under the release's names; the weights are those of a model of ours."""

    def __init__(self, model: UnifiedEditModel) -> None:
        super().__init__()
        vlm, conditioner = model.tower.vlm, model.core.conditioner
        self.visual = vlm.model.visual
        self.model = vlm.model.language_model
        self.lm_head = vlm.lm_head
        self.denoise_tower = nn.Module()
        self.denoise_tower.denoiser = model.core.denoiser.transformer
        self.denoise_tower.denoise_projector = projector(conditioner.vlm_connector)
        self.denoise_tower.vae_projector = nn.Sequential(nn.Linear(64, 24), nn.SiLU(), nn.Linear(24, 64))
        self.denoise_tower.siglip_projector = projector(conditioner.siglip_connector)


def projector(connector: Any) -> nn.Sequential:
    """A connector as the release builds it."""
    return nn.Sequential(connector.up, nn.SiLU(), connector.down)


def release_state(model: UnifiedEditModel) -> dict[str, Tensor]:
    """The weights of a model of ours under the release's names."""
    return {name: value.clone() for name, value in Release(model).state_dict().items()}


def write_release(folder: Path, model: UnifiedEditModel, state: dict[str, Tensor], shard_size: str = "300KB") -> Path:
    """The folder as it is published: weights, config and the VLM's processor; a task head that is no part of it."""
    folder.mkdir(parents=True)
    save_torch_state_dict(state, folder, max_shard_size=shard_size)
    config = model.tower.vlm.config
    text = config.text_config.to_dict()
    rope = text["rope_parameters"]
    flat = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act", "initializer_range",
        "max_window_layers", "use_sliding_window", "sliding_window", "attention_dropout", "use_cache",
        "bos_token_id", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    tokens = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    vision = (
        "depth", "hidden_size", "intermediate_size", "num_heads", "out_hidden_size", "window_size",
        "fullatt_block_indexes", "tokens_per_second", "in_channels", "spatial_merge_size",
    )  # fmt: skip
    values: dict[str, Any] = {
        "_attn_implementation_autoset": True,
        "architectures": ["UnivaQwen2p5VLForConditionalGeneration"],
        "image_begin_token_id": None,
        "image_end_token_id": None,
        "think_token": None,
        "model_type": "univa_qwen2p5vl",
        "torch_dtype": "float32",
        "transformers_version": "4.50.0",
        "tie_word_embeddings": False,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"mrope_section": rope["mrope_section"], "rope_type": "default", "type": "default"},
        "shortcut_image_embeds": False,
        "shortcut_image_embeds_scale": 0.5,
        "shortcut_projector_type": None,
        "image_token_length": None,
        "denoise_tower": {
            "model_type": "univa_denoise_tower",
            "denoiser_type": "flux",
            "denoise_projector_type": "mlp2x_gelu",
            "vae_projector_type": "mlp2x_gelu",
            "input_hidden_size": config.text_config.hidden_size,
            "output_hidden_size": 64,
            "denoiser_config": dict(model.core.denoiser.transformer.config)
            | {
                "_class_name": "FluxTransformer2DModel",
                "_diffusers_version": "0.30.0.dev0",
                "_name_or_path": "../flux",
            },
        },
        "vision_config": {name: getattr(config.vision_config, name) for name in vision}
        | {"model_type": "qwen2_5_vl", "in_chans": 3, "spatial_patch_size": 14, "torch_dtype": "float32"},
    }
    values |= {name: text[name] for name in flat} | {name: getattr(config, name) for name in tokens}
    (folder / "config.json").write_text(json.dumps(values))
    model.tower.vlm.generation_config.save_pretrained(folder)
    save_vlm_processor(model.processor.vlm_processor, folder)
    # As the processor of transformers 4.50 saves itself: the template in a file of its own, the area's bounds by name.
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()
    picture = json.loads((folder / "preprocessor_config.json").read_text())
    del picture["size"]
    picture |= {"min_pixels": 3136, "max_pixels": 12845056, "processor_class": "Qwen2_5_VLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(picture))
    (folder / "task_head_final.pt").write_bytes(b"another head")
    return folder
