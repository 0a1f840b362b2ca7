"""Low-rank adapters in a model: putting them in (peft), folding them into the weights, saving and loading them.

A saved adapter is a folder in peft's layout, `adapter_config.json` and `adapter_model.safetensors`, whose module names
are those of the DiT. peft reads it with `PeftModel.from_pretrained(transformer, folder)`; diffusers reads it with
`transformer.load_lora_adapter(folder, weight_name="adapter_model.safetensors", prefix="base_model.model")`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from schemas.atomic import write_bytes
from schemas.errors import ConfigError, InputError
from unified_model.extras import require
from unified_model.quantisation import is_quantised

ADAPTER = "default"
"""peft's name for the one adapter that a model holds."""

PREFIX = "base_model.model"
"""What peft puts before the module names of a saved adapter."""

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def add_adapters(module: nn.Module, paths: Sequence[str], rank: int, alpha: float, dropout: float, seed: int) -> int:
    """Give each linear layer at `paths` an adapter, in place. Nothing of `module` but the adapters is trainable then.

    The output of a fresh adapter is zero. Devices and dtypes are those of the layers.

    Args:
        paths: full module paths of linear layers.
        seed: of the adapters' weights, which do not touch torch's global generator.

    Returns:
        the adapters' parameters, a number.

    Raises:
        InputError: peft is not installed.
    """
    require("peft")
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(paths))  # type: ignore[arg-type]  # any number will do
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, module, ADAPTER)
    return sum(value.numel() for value in module.parameters() if value.requires_grad)


def adapted_layers(module: nn.Module) -> dict[str, Any]:
    """Every layer with an adapter (a peft `LoraLayer`), by its path; none where the model holds none."""
    return {path: layer for path, layer in module.named_modules() if hasattr(layer, "lora_A")}


@torch.no_grad()
def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of `module` as it would be without adapters, these folded into the weights: W + (alpha / rank) * B A,
    computed in float32 and rounded once. `module` stays as it is; tensors without an adapter are shared with it."""
    layers = adapted_layers(module)
    merged: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        path, base, rest = name.partition(".base_layer.")
        if not base:
            if ".lora_" not in name:
                merged[name] = value
            continue
        layer = layers[path]
        if rest == "weight":
            down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
            value = _folded(value, down, up, layer.scaling[ADAPTER])
        merged[f"{path}.{rest}"] = value
    return merged


def without_adapters(model: Any) -> Any:
    """A diffusers model for saving: itself where it holds no adapters, else a copy with `merged_state`."""
    if not adapted_layers(model):
        return model
    with torch.device("meta"):
        plain = type(model).from_config(model.config)
    plain.load_state_dict(merged_state(model), assign=True)
    return plain


def save_adapter(transformer: nn.Module, folder: Path, base: str | None) -> None:
    """Write the adapters of `transformer` into `folder`, in peft's layout. The same adapters give the same bytes.

    Args:
        base: where the weights lie that the adapters belong to, for people who read the folder.

    Raises:
        ConfigError: the transformer holds no adapters.
    """
    layers = adapted_layers(transformer)
    if not layers:
        raise ConfigError("adapters", 0, "the DiT holds none", "Save the model itself.")
    from peft import LoraConfig

    first = next(iter(layers.values()))
    rank = first.r[ADAPTER]
    config: dict[str, Any] = LoraConfig(
        r=rank,
        lora_alpha=first.scaling[ADAPTER] * rank,
        target_modules=sorted(layers),
        base_model_name_or_path=base,
        inference_mode=True,
    ).to_dict()
    config = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    weights = {}
    for path, layer in layers.items():
        for part in ("lora_A", "lora_B"):
            weights[f"{PREFIX}.{path}.{part}.weight"] = getattr(layer, part)[ADAPTER].weight.detach().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    # diffusers takes the config from the header of the weights, under the same prefix as theirs.
    header = {f"{PREFIX}.{name}": value for name, value in config.items()}
    save_file(weights, folder / WEIGHTS_FILE, {"format": "pt", "lora_adapter_metadata": json.dumps(header)})
    write_bytes(folder / CONFIG_FILE, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


@torch.no_grad()
def apply_adapter(transformer: Any, folder: Path) -> None:
    """Fold a saved adapter into the weights of `transformer`, in place. Quantised weights cannot take it in: it is
    added beside them.

    Raises:
        InputError: the folder holds no adapter of this layout, or one that does not fit.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS_FILE)
        scale = float(config["lora_alpha"]) / int(config["r"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError("adapter", str(folder), f"cannot be read ({error})", "Export it again.") from error
    if is_quantised(transformer):
        require("peft")
        transformer.load_lora_adapter(folder, weight_name=WEIGHTS_FILE, prefix=PREFIX)
        return
    modules = dict(transformer.named_modules())
    paths = {name.removeprefix(f"{PREFIX}.").rpartition(".lora_")[0] for name in weights}
    for path in sorted(paths):
        layer = modules.get(path)
        down, up = (weights.get(f"{PREFIX}.{path}.{part}.weight") for part in ("lora_A", "lora_B"))
        if (
            not isinstance(layer, nn.Linear)
            or down is None
            or up is None
            or layer.weight.shape != (up.shape[0], down.shape[1])
        ):
            raise InputError("adapter", str(folder), f"does not fit the model at {path}", "Use the base it came from.")
        layer.weight.copy_(_folded(layer.weight, down, up, scale))


def _folded(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    change = up.to(weight.device).float() @ down.to(weight.device).float() * scale
    return (weight.float() + change).to(weight.dtype)
