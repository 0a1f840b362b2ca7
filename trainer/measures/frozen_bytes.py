"""Bytes of the weights that do not train, as `TrainConfig.frozen` has them stored."""

from __future__ import annotations

from trainer.config import TrainConfig
from unified_model.footprint import VLM_IN_FULL, Weighed, stored_bytes
from unified_model.quantisation import DIT_IN_FULL


def tower_bytes(model: Weighed, config: TrainConfig) -> dict[str, int]:
    """Of each tower, by name; towers that the model has not are 0."""
    bits, text = config.frozen.quantise_vlm, model.text
    return {
        "VLM": stored_bytes(model.tower.vlm, bits, VLM_IN_FULL),
        "SigLIP": stored_bytes(model.tower.siglip),
        "CLIP": 0 if text.clip is None else stored_bytes(text.clip),
        "T5": 0 if text.t5 is None else stored_bytes(text.t5, bits),
    }


def fetched_towers(config: TrainConfig) -> frozenset[str]:
    """Names of the towers that are on the device only while they compute; quantised ones stay there."""
    if not config.frozen.offload_towers:
        return frozenset()
    return frozenset({"SigLIP", "CLIP"} | ({"VLM", "T5"} if config.frozen.quantise_vlm == "none" else set()))


def frozen_core_bytes(model: Weighed, config: TrainConfig) -> int:
    """Of what is frozen in the core, whose `requires_grad` is set."""
    transformer, bits = model.core.denoiser.transformer, config.frozen.quantise_dit
    whole = stored_bytes(model.core.conditioner) + stored_bytes(transformer, bits, DIT_IN_FULL, only_frozen=True)
    trainable = (value for value in model.core.parameters() if value.requires_grad)
    return whole - sum(value.numel() * value.element_size() for value in trainable)
