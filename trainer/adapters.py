"""From a config to a core whose right parameters train: modules opened, or adapters put in."""

from __future__ import annotations

from torch import nn

from schemas.errors import ConfigError
from trainer.config import TrainConfig
from trainer.stages import PatternCount, open_modules, resolve
from unified_model.adapters import add_adapters
from unified_model.conditioners import MlpConditioner

CONDITIONER = "conditioner"
TRANSFORMER = "denoiser.transformer"


def open_stage(core: nn.Module, config: TrainConfig) -> list[PatternCount]:
    """Make trainable what the config's stage trains, and freeze the rest, in place; on the meta device too.

    Returns:
        One count a pattern, in the order given; where adapters train, of the layers they were given to and of their own
        parameters, and last, where the connectors train whole, of these.

    Raises:
        ConfigError: `align` of another conditioner than the release's; a pattern matches nothing, or no linear layer of
            the DiT matches any. Nothing was changed then.
        InputError: adapters are asked for, and peft is not installed.
    """
    if config.stage == "align" and config.trainable is None and not isinstance(core.conditioner, MlpConditioner):
        raise ConfigError(
            "stage", "align", "trains the VLM connector of the conditioner 'mlp'", "Say trainable: [conditioner]."
        )
    if not config.adapts:
        return open_modules(core, config.patterns)
    lora = config.lora
    layers: dict[str, list[str]] = {}
    taken: set[str] = set()
    for pattern in config.patterns:
        found = [path for path in _linear_layers(core, pattern) if path not in taken]
        if lora.connectors != "adapted":
            found = [path for path in found if path.partition(".")[0] != CONDITIONER]
        taken.update(found)
        layers[pattern] = found
    if not any(path.startswith(f"{TRANSFORMER}.") for path in taken):
        raise ConfigError(
            "lora.modules", config.patterns, "match no linear layer of the DiT", "Name some, or take another stage."
        )
    core.requires_grad_(False)
    for name in (CONDITIONER, TRANSFORMER):
        # Part by part: peft asks the part whether its weights are quantised.
        own = sorted(path.removeprefix(f"{name}.") for path in taken if path.startswith(f"{name}."))
        if own:
            add_adapters(core.get_submodule(name), own, lora.rank, lora.scale_numerator, lora.dropout, config.seed)
    counts = [PatternCount(pattern, len(found), _trainable(core, found)) for pattern, found in layers.items() if found]
    if lora.connectors == "full":
        whole = resolve(core, CONDITIONER)[CONDITIONER].requires_grad_(True)
        counts.append(PatternCount(CONDITIONER, 1, sum(value.numel() for value in whole.parameters())))
    return counts


def _linear_layers(core: nn.Module, pattern: str) -> list[str]:
    """Paths of the linear layers at and below the modules that match."""
    found = resolve(core, pattern)
    return [
        f"{path}.{inner}" if inner else path
        for path, module in found.items()
        for inner, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]


def _trainable(core: nn.Module, paths: list[str]) -> int:
    return sum(
        value.numel() for path in paths for value in core.get_submodule(path).parameters() if value.requires_grad
    )
