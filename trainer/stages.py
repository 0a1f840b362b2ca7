"""Training stages as data: which modules of the trainable core train, as module-path patterns.

Counts at release size (3584 -> 4096 and 1152 -> 4096 connectors, FLUX.1-dev): `align` 94,388,224 parameters, `edit`
4,104,933,632, `connectors` 158,892,032, `full` 12,060,300,352 (`align` and `edit` are
stages 1 and 2 of Lin et al., "UniWorld-V1", arXiv:2506.03147).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from schemas.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """A training stage.

    Args:
        name: what a config calls it.
        purpose: one sentence for people.
        patterns: module paths inside the core, `*` standing for anything within one path segment. Every parameter of a
            module that matches trains; all others are frozen.
        averages: whether a run keeps a moving average where its config does not say.
        adapts: the linear layers of the modules that match get low-rank adapters, which train in their place
            (`trainer.adapters`).
    """

    name: str
    purpose: str
    patterns: tuple[str, ...]
    averages: bool = True
    adapts: bool = False


_DOUBLE = "denoiser.transformer.transformer_blocks.*"
_SINGLE = "denoiser.transformer.single_transformer_blocks.*"

# Of the release both connectors; of another conditioner everything it has.
_CONDITIONER = "conditioner"
_EDIT = (
    _CONDITIONER,
    f"{_DOUBLE}.attn.to_q",
    f"{_DOUBLE}.attn.to_k",
    f"{_DOUBLE}.attn.to_v",
    f"{_DOUBLE}.attn.to_out.0",
    f"{_DOUBLE}.attn.norm_q",
    f"{_DOUBLE}.attn.norm_k",
    f"{_DOUBLE}.norm1.linear",
    f"{_SINGLE}.attn.to_q",
    f"{_SINGLE}.attn.to_k",
    f"{_SINGLE}.attn.to_v",
    f"{_SINGLE}.attn.norm_q",
    f"{_SINGLE}.attn.norm_k",
    f"{_SINGLE}.norm.linear",
)

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "align",
            "Teach the VLM connector to speak to the frozen DiT.",
            ("conditioner.vlm_connector",),
            averages=False,
        ),
        Stage(
            "edit",
            "Train both connectors and the attention and modulation of the DiT's image branch.",
            _EDIT,
        ),
        Stage("connectors", "Train the conditioner (both connectors) against the frozen DiT.", (_CONDITIONER,)),
        Stage("full", "Train the conditioner and the whole DiT.", (_CONDITIONER, "denoiser")),
        Stage(
            "lora",
            "Train low-rank adapters on the linear layers among the modules of `edit`.",
            _EDIT,
            adapts=True,
        ),
    )
}
"""Every stage by name. To add one, add a `Stage` here."""


@dataclass(frozen=True)
class PatternCount:
    """What one pattern opened.

    Args:
        pattern: the pattern.
        modules: modules it matched.
        parameters: parameters in them, each parameter counted under the first pattern that opened it.
    """

    pattern: str
    modules: int
    parameters: int


def matches(path: str, pattern: str) -> bool:
    """Whether a module path fits a pattern, segment by segment; `*` never reaches over a dot."""
    segments, wanted = path.split("."), pattern.split(".")
    return len(segments) == len(wanted) and all(map(fnmatchcase, segments, wanted))


def open_modules(core: nn.Module, patterns: Sequence[str]) -> list[PatternCount]:
    """Freeze `core`, then make every parameter of the modules that match a pattern trainable.

    Returns:
        One count a pattern, in the order given.

    Raises:
        ConfigError: a pattern matches no module, or only modules without parameters; it names near module paths.
            Nothing was changed then.
    """
    found = [list(resolve(core, pattern).values()) for pattern in patterns]
    core.requires_grad_(False)
    counts = []
    for pattern, matched in zip(patterns, found, strict=True):
        opened = 0
        for module in matched:
            for parameter in module.parameters():
                if not parameter.requires_grad:
                    parameter.requires_grad_(True)
                    opened += parameter.numel()
        counts.append(PatternCount(pattern, len(matched), opened))
    return counts


def resolve(core: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """The modules that a pattern matches, by path.

    Raises:
        ConfigError: there is none, or only modules without parameters; it names near module paths.
    """
    modules = dict(core.named_modules())
    matched = {path: module for path, module in modules.items() if path and matches(path, pattern)}
    if not any(True for module in matched.values() for _ in module.parameters()):
        raise _no_match(pattern, modules)
    return matched


def _no_match(pattern: str, modules: dict[str, nn.Module]) -> ConfigError:
    paths = [path for path, module in modules.items() if any(True for _ in module.parameters())]
    near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.3) or [path for path in paths if path][:3]
    return ConfigError(
        "trainable", pattern, "matches no module with parameters", f"Near module paths: {', '.join(near)}."
    )
