"""The averaged weights in the model for a while, without a second copy of it on the device.

Every rank keeps its slice of the raw parameters in host memory (1 / ranks of the trainables, in their own dtype), which
is the slice that ZeRO-3 and the average cut (`shard_bounds`). The averages then come in place of the parameters one by
one. Back again the slices are put together; no value is computed, so the parameters are what they were to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn

from trainer.checkpoints.ema import ShardedEma
from trainer.checkpoints.shard_bounds import full_shape, shard_bounds
from trainer.distributed import Ranks


@contextmanager
def averaged_weights(parameters: Mapping[str, nn.Parameter], ema: ShardedEma, ranks: Ranks) -> Iterator[None]:
    """Inside, the parameters hold their averages, rounded to their dtype. A collective, entering and leaving.

    Args:
        parameters: the trainable ones, by the names that `ema` gathers them under, as the engine holds them; nobody
            may step the optimizer inside.
    """
    kept = {name: _own_slice(parameter, ranks).cpu().clone() for name, parameter in parameters.items()}
    with torch.no_grad():
        for name, value in ema.gather():
            _put(parameters[name], value.reshape(-1), ranks)
        _gather_persistent(parameters.values())
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                if _is_partitioned(parameter):
                    _own_slice(parameter, ranks).copy_(kept[name])
                else:
                    parameter.view(-1).copy_(_whole(kept[name], parameter, ranks))
            _gather_persistent(parameters.values())


def _is_partitioned(parameter: Any) -> bool:
    return hasattr(parameter, "ds_tensor")


def _own_slice(parameter: Any, ranks: Ranks) -> torch.Tensor:
    """This rank's slice, as a view into what the engine holds."""
    start, stop = shard_bounds(full_shape(parameter).numel(), ranks.rank, ranks.world)
    if _is_partitioned(parameter):
        # The last slices are padded to the length of the others.
        held: torch.Tensor = parameter.ds_tensor.detach().view(-1)[: stop - start]
        return held
    return parameter.detach().view(-1)[start:stop]


def _put(parameter: Any, value: torch.Tensor, ranks: Ranks) -> None:
    if _is_partitioned(parameter):
        start, stop = shard_bounds(value.numel(), ranks.rank, ranks.world)
        _own_slice(parameter, ranks).copy_(value[start:stop])
    else:
        parameter.view(-1).copy_(value)


def _whole(own: torch.Tensor, parameter: nn.Parameter, ranks: Ranks) -> torch.Tensor:
    """All ranks' slices of a parameter, flat."""
    elements = parameter.numel()
    padded = torch.zeros(-(-elements // ranks.world), dtype=own.dtype, device=ranks.device)
    padded[: own.numel()] = own
    parts = [torch.empty_like(padded) for _ in range(ranks.world)]
    distributed.all_gather(parts, padded)
    return torch.cat(parts)[:elements]


def _gather_persistent(parameters: Iterable[Any]) -> None:
    """ZeRO-3 keeps small parameters whole beside their slices: bring those up to the slices."""
    whole = [value for value in parameters if _is_partitioned(value) and value.data.numel() == value.ds_numel]
    if whole:
        whole[0].partition(whole)
        whole[0].all_gather(whole)
