"""Weights under new names, written shard by shard: never more than one shard is in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from schemas.atomic import write_json
from unified_model.release.weights import StoredWeights

SHARD_BYTES = 5 * 10**9
"""Largest size of a shard, save where one weight alone is larger."""


def write_renamed(
    folder: Path,
    stem: str,
    weights: StoredWeights,
    renamed: Mapping[str, str],
    dtype: torch.dtype,
    on_weight: Callable[[int], None],
) -> None:
    """Write weights in the Hugging Face layout: one file, or shards with an index.

    Args:
        stem: of the file's name ("model", "diffusion_pytorch_model").
        renamed: new name -> name in `weights`.
        dtype: what they are converted to.
        on_weight: called with each weight's number of elements once it was read.
    """
    shards = plan_shards({name: weights.shapes[old] for name, old in renamed.items()}, dtype.itemsize, SHARD_BYTES)
    names = [f"{stem}.safetensors"]
    if len(shards) > 1:
        names = [f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for name, keys in zip(names, shards, strict=True):
        back = {renamed[key]: key for key in keys}
        held = {}
        for old, value in weights.read(back):
            held[back[old]] = value.to(dtype).contiguous()
            on_weight(value.numel())
        save_file(held, folder / name, metadata={"format": "pt"})
    if len(shards) > 1:
        size = weights.elements(renamed.values()) * dtype.itemsize
        listed = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
        write_json(folder / f"{stem}.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": listed})


def plan_shards(shapes: Mapping[str, tuple[int, ...]], itemsize: int, shard_bytes: int) -> list[list[str]]:
    """Weights in their order, cut into shards of at most `shard_bytes`; one that is larger has a shard of its own."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        weight = math.prod(shape) * itemsize
        if shards[-1] and size + weight > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += weight
    return shards
