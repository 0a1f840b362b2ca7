"""The one table from the release's names of weights to ours. Imports no torch.

The release (`LanguageBind/UniWorld-V1`, by PKU-YuanGroup/UniWorld-V1) is one transformers model: the modules of
Qwen2.5-VL under their names of 2025, and beside them `denoise_tower` with the projectors and a diffusers FLUX.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.errors import InputError

Part = Literal["vlm", "conditioner", "transformer"]


@dataclass(frozen=True)
class KeyRule:
    """What becomes of every key with a prefix.

    Args:
        prefix: how the release's key begins.
        part: the part of our model that the weight belongs to; None for a weight that nothing reads.
        becomes: what stands in our key in place of `prefix`.
        note: for a weight that nothing reads, why.
    """

    prefix: str
    part: Part | None
    becomes: str = ""
    note: str = ""


KEYS = (
    KeyRule("denoise_tower.denoiser.", "transformer"),
    # nn.Sequential(Linear, SiLU, Linear)
    KeyRule("denoise_tower.denoise_projector.0.", "conditioner", "vlm_connector.up."),
    KeyRule("denoise_tower.denoise_projector.2.", "conditioner", "vlm_connector.down."),
    KeyRule("denoise_tower.siglip_projector.0.", "conditioner", "siglip_connector.up."),
    KeyRule("denoise_tower.siglip_projector.2.", "conditioner", "siglip_connector.down."),
    KeyRule("denoise_tower.vae_projector.", None, note="version 1 of the release never runs it"),
    # flux-redux-siglipv2-512.bin, and the image_embedder of FLUX.1-Redux, from which stage 2 starts
    KeyRule("siglip_projector.0.", "conditioner", "siglip_connector.up."),
    KeyRule("siglip_projector.2.", "conditioner", "siglip_connector.down."),
    KeyRule("redux_up.", "conditioner", "siglip_connector.up."),
    KeyRule("redux_down.", "conditioner", "siglip_connector.down."),
    # Qwen2.5-VL as published, and as transformers has named its modules since 4.52
    KeyRule("visual.", "vlm", "model.visual."),
    KeyRule("model.visual.", "vlm", "model.visual."),
    KeyRule("model.language_model.", "vlm", "model.language_model."),
    KeyRule("model.", "vlm", "model.language_model."),
    KeyRule("lm_head.", "vlm", "lm_head."),
)
"""The first rule whose prefix fits a key decides."""


@dataclass(frozen=True)
class MappedKeys:
    """Where the keys of a checkpoint go.

    Args:
        parts: for each part, our key -> the release's.
        unread: keys that nothing reads, by the rule that says so.
    """

    parts: Mapping[Part, Mapping[str, str]]
    unread: Mapping[KeyRule, tuple[str, ...]]


def map_keys(keys: Iterable[str], where: str) -> MappedKeys:
    """Every key through the table.

    Args:
        where: what the keys came from, for the error.

    Raises:
        InputError: keys that no rule fits, all of them listed, or two keys that become the same one.
    """
    parts: dict[Part, dict[str, str]] = {"vlm": {}, "conditioner": {}, "transformer": {}}
    unread: dict[KeyRule, list[str]] = {}
    unknown, twice = [], []
    for key in sorted(keys):
        rule = next((rule for rule in KEYS if key.startswith(rule.prefix)), None)
        if rule is None:
            unknown.append(key)
        elif rule.part is None:
            unread.setdefault(rule, []).append(key)
        else:
            ours = rule.becomes + key.removeprefix(rule.prefix)
            if ours in parts[rule.part]:
                twice.append(f"{parts[rule.part][ours]} and {key}")
            parts[rule.part][ours] = key
    refuse(unknown, where, "stand in no rule of unified_model/release/keys.py")
    refuse(twice, where, "become the same weight")
    return MappedKeys(parts, {rule: tuple(found) for rule, found in unread.items()})


def refuse(keys: list[str], where: str, rule: str) -> None:
    """Raise an `InputError` that lists `keys`, where there are any."""
    if keys:
        told = f"{len(keys)} of its weights {rule}: {', '.join(keys)}"
        raise InputError("checkpoint", where, told, "Give one in the layout of UniWorld-V1.")
