"""The optimizer in a checkpoint: float32 weights and moments, in slices for any ZeRO stage and any number of ranks.

Kept for each parameter: `weight/NAME`, and for each tensor of the optimizer's state with as many elements (Adam's
moments) `STATE/NAME`. Single numbers of the state (the count of steps) and of the parameter groups stand in the notes.
What has another size (the scales of an 8-bit state) belongs to a rank's own cut of the weights: it is kept as it is,
and can be read only where the cut is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from schemas.atomic import fingerprint
from schemas.errors import ConfigError
from trainer.checkpoints.optimizer_slices import Part, optimizer_parts
from trainer.checkpoints.slices import Slice, SliceReader, write_slices
from trainer.distributed import Ranks
from trainer.optimization.engine import Engine

WEIGHT = "weight"
_OWN = "own"
_FLAT = ("p0", "s")
"""Prodigy keeps these flat, whatever the parameter's shape."""


def save_optimizer(path: Path, engine: Engine, ranks: Ranks) -> int:
    """Write what this rank's optimizer holds; returns its size in bytes.

    Raises:
        OSError: it cannot be written.
    """
    parts = optimizer_parts(engine, trainable(engine.module), ranks)
    states = engine.basic_optimizer.state
    slices: dict[str, Slice] = {}
    numbers: dict[str, dict[str, Any]] = {}
    shapes: dict[str, list[int]] = {}
    for part in parts:
        state = states.get(part.tensor, {})
        alike = {key: value for key, value in state.items() if _is_alike(value, part.tensor)}
        for kind, values in {WEIGHT: part.tensor, **alike}.items():
            first, last = part.writes
            piece = part.of(values)[first - part.start : last - part.start]
            slices[f"{kind}/{part.name}"] = Slice(first, part.total, piece)
        numbers[part.name] = {key: _number(value) for key, value in state.items() if _is_number(value)}
    for place, tensor in enumerate(_tensors(parts)):
        for key, value in states.get(tensor, {}).items():
            if isinstance(value, torch.Tensor) and not _is_alike(value, tensor) and value.dim():
                name = f"{_OWN}/{ranks.rank}/{place}/{key}"
                slices[name] = Slice(0, value.numel(), value.detach().reshape(-1))
                shapes[name] = list(value.shape)
    notes = {"numbers": numbers, "groups": _groups(engine), "shapes": shapes, "cut": _cut(parts)}
    return write_slices(path, slices, notes)


def load_weights(reader: SliceReader, parameters: Mapping[str, nn.Parameter]) -> None:
    """Put the weights into whole parameters, rounded to their dtype. Before the engine takes them over: however it cuts
    them, it then starts from the right ones.

    Raises:
        InputError: the files do not hold them.
    """
    for name, parameter in parameters.items():
        weights = torch.empty(parameter.numel())
        reader.read_into(f"{WEIGHT}/{name}", 0, weights)
        parameter.data.copy_(weights.view(parameter.shape))


def load_optimizer(reader: SliceReader, engine: Engine, ranks: Ranks) -> None:
    """Bring the optimizer to where it stood: its float32 weights, its state and its groups' numbers.

    Raises:
        InputError: the files do not hold them.
        ConfigError: part of the state was cut for another number of ranks or another ZeRO stage.
    """
    parts = optimizer_parts(engine, trainable(engine.module), ranks)
    own = _own_state(reader, parts, ranks)
    numbers: dict[str, dict[str, Any]] = {}
    for notes in reader.notes:
        numbers |= notes["numbers"]
    states = engine.basic_optimizer.state
    for part in parts:
        reader.read_into(f"{WEIGHT}/{part.name}", part.start, part.of(part.tensor))
    for place, tensor in enumerate(_tensors(parts)):
        held = [part for part in parts if part.tensor is tensor]
        state: dict[str, Any] = dict(own.get(place, {}))
        for key in _kinds(reader, held[0].name):
            shape = (tensor.numel(),) if key in _FLAT else tensor.shape
            values = torch.zeros(shape, dtype=reader.dtype(f"{key}/{held[0].name}"), device=tensor.device)
            for part in held:
                reader.read_into(f"{key}/{part.name}", part.start, part.of(values))
            state[key] = values
        group = _group_of(engine, tensor)
        for key, (value, dtype) in numbers[held[0].name].items():
            state[key] = _as_it_was(value, dtype, tensor.device if _steps_on_device(group) else torch.device("cpu"))
        if state:
            states[tensor] = state
    _restore_groups(engine, reader.notes[0]["groups"])


def trainable(core: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name."""
    return {name: value for name, value in core.named_parameters() if value.requires_grad}


def _tensors(parts: Sequence[Part]) -> list[torch.Tensor]:
    """The tensors that the optimizer steps on, each once, in the order of the parts."""
    return list({id(part.tensor): part.tensor for part in parts}.values())


def _cut(parts: Sequence[Part]) -> str:
    """A fingerprint of how a rank holds the parameters."""
    places = {id(tensor): place for place, tensor in enumerate(_tensors(parts))}
    return fingerprint([[part.name, part.start, part.length, places[id(part.tensor)], part.offset] for part in parts])


def _is_alike(value: Any, tensor: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == tensor.numel() and (value.dim() > 0 or not tensor.dim())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, torch.Tensor) and not value.dim())


def _number(value: Any) -> list[Any]:
    """A number, and the dtype of the tensor that holds it or None."""
    if isinstance(value, torch.Tensor):
        return [value.item(), str(value.dtype).removeprefix("torch.")]
    return [value, None]


def _as_it_was(value: Any, dtype: str | None, device: torch.device) -> Any:
    return value if dtype is None else torch.tensor(value, dtype=getattr(torch, dtype), device=device)


def _kinds(reader: SliceReader, name: str) -> list[str]:
    kinds = (key.partition("/") for key in reader.totals)
    return sorted(kind for kind, _, of in kinds if of == name and kind != WEIGHT)


def _own_state(reader: SliceReader, parts: Sequence[Part], ranks: Ranks) -> dict[int, dict[str, torch.Tensor]]:
    """What was kept for this rank's own cut: place of the tensor -> state."""
    if not any(notes["shapes"] for notes in reader.notes):
        return {}
    notes = reader.notes[ranks.rank] if len(reader.notes) == ranks.world else None
    if notes is None or notes["cut"] != _cut(parts):
        raise ConfigError(
            "processes",
            ranks.world,
            f"the optimizer's state was cut for {len(reader.notes)}, and for the ZeRO stage of then",
            "Go on with as many and with that stage; the state of an 8-bit optimizer cannot be cut anew.",
        )
    own: dict[int, dict[str, torch.Tensor]] = {}
    tensors = _tensors(parts)
    for name, shape in notes["shapes"].items():
        _, _, place, key = name.split("/", 3)
        values = torch.empty(reader.totals[name], dtype=reader.dtype(name), device=tensors[int(place)].device)
        reader.read_into(name, 0, values)
        own.setdefault(int(place), {})[key] = values.view(shape)
    return own


def _groups(engine: Engine) -> list[dict[str, list[Any]]]:
    """The numbers of each parameter group; some optimizers keep what they learn there."""
    groups = engine.basic_optimizer.param_groups
    return [{key: _number(value) for key, value in group.items() if _is_number(value)} for group in groups]


def _restore_groups(engine: Engine, saved: list[dict[str, list[Any]]]) -> None:
    for group, numbers in zip(engine.basic_optimizer.param_groups, saved, strict=True):
        for key, (value, dtype) in numbers.items():
            before = group.get(key)
            device = before.device if isinstance(before, torch.Tensor) else torch.device("cpu")
            group[key] = _as_it_was(value, dtype, device)


def _group_of(engine: Engine, tensor: torch.Tensor) -> dict[str, Any]:
    """The parameter group of a tensor; ZeRO-3 empties the groups between steps, and has one set of settings."""
    groups: list[dict[str, Any]] = engine.basic_optimizer.param_groups
    return next((group for group in groups if any(one is tensor for one in group["params"])), groups[0])


def _steps_on_device(group: Mapping[str, Any]) -> bool:
    """Whether torch keeps the count of steps beside the weights, as its fused and capturable optimizers do."""
    return bool(group.get("fused") or group.get("capturable"))
