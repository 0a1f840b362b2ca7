"""How a flattened parameter is cut for the ranks, as ZeRO-3 cuts it."""

from __future__ import annotations

import torch
from torch import nn


def shard_bounds(elements: int, rank: int, world: int) -> tuple[int, int]:
    """The flat range [start, stop) of a parameter that a rank keeps; empty for late ranks of a small parameter."""
    size = -(-elements // world)
    return min(rank * size, elements), min((rank + 1) * size, elements)


def full_shape(parameter: nn.Parameter) -> torch.Size:
    """The shape of a parameter, also where ZeRO-3 holds a slice of it."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))
