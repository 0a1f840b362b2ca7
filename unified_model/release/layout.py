"""What a release's `config.json` says that its weights must be, and whether they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from schemas.errors import InputError
from unified_model.conditioners import MlpConditioner
from unified_model.release.keys import MappedKeys, Part, refuse
from unified_model.release.weights import StoredWeights

OF_THE_RELEASE = (
    "architectures",
    "denoise_tower",
    "image_begin_token_id",
    "image_end_token_id",
    "image_token_length",
    "model_type",
    "no_think_token",
    "shortcut_image_embeds",
    "shortcut_image_embeds_scale",
    "shortcut_projector_type",
    "think_begin_token",
    "think_end_token",
    "think_token",
    "torch_dtype",
    "transformers_version",
)
"""Keys of the release's `config.json` that are not Qwen2.5-VL's."""


@dataclass(frozen=True)
class ReleaseLayout:
    """A release's parts, as its `config.json` has them.

    Args:
        vlm: the VLM's config.
        transformer: FLUX's config, as `FluxTransformer2DModel.from_config` takes it.
        conditioner: arguments of `MlpConditioner`.
    """

    vlm: Qwen2_5_VLConfig
    transformer: dict[str, Any]
    conditioner: dict[str, int]

    def empty_parts(self) -> dict[Part, nn.Module]:
        """The parts without weights, on the meta device."""
        with torch.device("meta"):
            return {
                "vlm": Qwen2_5_VLForConditionalGeneration(self.vlm),
                "conditioner": MlpConditioner(**self.conditioner),
                "transformer": FluxTransformer2DModel.from_config(self.transformer),
            }


def read_layout(folder: Path, weights: StoredWeights, mapped: MappedKeys) -> ReleaseLayout:
    """The layout of a release; the connectors' widths are those of their weights.

    Raises:
        InputError: no readable `config.json`, or one that describes no FLUX denoiser.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        tower = values["denoise_tower"]
        transformer = tower["denoiser_config"]
        kind = tower.get("denoiser_type", "flux")
        widths = {
            "context_width": transformer["joint_attention_dim"],
            "pooled_width": transformer["pooled_projection_dim"],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            str(path),
            str(error),
            "must describe a VLM and its denoise_tower.denoiser_config",
            "Give the whole release.",
        ) from error
    if kind != "flux":
        raise InputError(f"{path}: denoiser_type", kind, "must be flux", "Only FLUX is converted.")
    vlm = Qwen2_5_VLConfig(**{key: value for key, value in values.items() if key not in OF_THE_RELEASE})
    conditioner = {
        "vlm_width": vlm.text_config.hidden_size,
        "siglip_width": _width(weights, mapped, "siglip_connector.up.weight", 1),
        "hidden_width": _width(weights, mapped, "vlm_connector.up.weight", 0),
        **widths,
    }
    return ReleaseLayout(vlm, transformer, conditioner)


def check_fit(layout: ReleaseLayout, weights: StoredWeights, mapped: MappedKeys) -> None:
    """Check that the weights are exactly those that the layout needs.

    Raises:
        InputError: weights that are missing, that no module has, or of another shape; all of a kind are listed.
    """
    where = str(weights.place)
    missing, foreign, other = [], [], []
    for part, module in layout.empty_parts().items():
        needed = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        held = mapped.parts[part]
        optional = {"pooled"} if part == "conditioner" else _tied(layout) if part == "vlm" else set()
        missing += [f"{part}: {name}" for name in needed if name not in held and name not in optional]
        foreign += [old for name, old in held.items() if name not in needed]
        other += [
            f"{old} {weights.shapes[old]}, needed {needed[name]}"
            for name, old in held.items()
            if name in needed and needed[name] != weights.shapes[old]
        ]
    refuse(missing, where, "are missing (named as in our model)")
    refuse(foreign, where, "belong to no module")
    refuse(other, where, "have another shape than its config.json says")


def _tied(layout: ReleaseLayout) -> set[str]:
    return {"lm_head.weight"} if layout.vlm.tie_word_embeddings else set()


def _width(weights: StoredWeights, mapped: MappedKeys, ours: str, axis: int) -> int:
    held: Mapping[str, str] = mapped.parts["conditioner"]
    if ours not in held:
        refuse([f"conditioner: {ours}"], str(weights.place), "are missing (named as in our model)")
    return weights.shapes[held[ours]][axis]
