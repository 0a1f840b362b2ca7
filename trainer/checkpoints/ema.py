"""The moving average of the trainable parameters, sharded over the ranks as ZeRO-3 shards parameters.

Rank r of W keeps the elements [r * s, (r + 1) * s) of each flattened parameter, s = ceil(n / W). Without ZeRO-3 it cuts
that slice out of the full parameter it holds; with ZeRO-3 the slice is all it holds. So an update needs no
communication, and the memory is 4 bytes an element divided by the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import distributed, nn

from schemas.errors import InputError
from trainer.distributed import Ranks


def decay_at(updates: int, decay: float) -> float:
    """min((1 + s) / (10 + s), decay), with s the updates made before: the average follows quickly while it is young."""
    return min((1 + updates) / (10 + updates), decay)


def shard_bounds(elements: int, rank: int, world: int) -> tuple[int, int]:
    """The flat range [start, stop) of a parameter that a rank keeps; empty for late ranks of a small parameter."""
    size = -(-elements // world)
    return min(rank * size, elements), min((rank + 1) * size, elements)


class ShardedEma:
    """The float32 average of every trainable parameter, this rank's part of it.

    It starts from the parameters as they are (rounded to the training dtype), and follows them in float32.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], ranks: Ranks, decay: float) -> None:
        """`parameters`: the trainable ones by name, as the engine holds them."""
        self._parameters = dict(parameters)
        self._ranks = ranks
        self._decay = decay
        self.updates = 0
        """Updates made so far."""
        self._shards = {name: self._slice(parameter).float().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Follow the parameters by one step. Call after each optimizer step, and at no other micro-batch."""
        decay = decay_at(self.updates, self._decay)
        for name, parameter in self._parameters.items():
            self._shards[name].mul_(decay).add_(self._slice(parameter).float(), alpha=1.0 - decay)
        self.updates += 1

    def state(self) -> dict[str, torch.Tensor]:
        """This rank's shards, on the CPU."""
        return {name: shard.cpu() for name, shard in self._shards.items()}

    def load(self, state: Mapping[str, torch.Tensor], updates: int) -> None:
        """Go on from `state`, as `state()` gave it on this rank among as many ranks.

        Raises:
            InputError: other parameters, or other shapes.
        """
        wanted = {name: shard.shape for name, shard in self._shards.items()}
        if {name: shard.shape for name, shard in state.items()} != wanted:
            raise InputError(
                "EMA shards",
                f"{len(state)} parameters",
                "do not fit the parameters that train",
                "Go on with the config and the number of processes that wrote the checkpoint.",
            )
        for name, shard in state.items():
            self._shards[name].copy_(shard)
        self.updates = updates

    def gather(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The whole average of each parameter in turn, float32 on the CPU in the parameter's shape. A collective.

        One parameter is whole at a time, so that the caller decides what to keep.
        """
        for name, parameter in self._parameters.items():
            shape = full_shape(parameter)
            elements = shape.numel()
            size = -(-elements // self._ranks.world)
            padded = torch.zeros(size, device=self._ranks.device)
            padded[: self._shards[name].numel()] = self._shards[name]
            parts = [torch.empty_like(padded) for _ in range(self._ranks.world)]
            distributed.all_gather(parts, padded)
            yield name, torch.cat(parts)[:elements].view(shape).cpu()

    def _slice(self, parameter: nn.Parameter) -> torch.Tensor:
        start, stop = shard_bounds(full_shape(parameter).numel(), self._ranks.rank, self._ranks.world)
        if hasattr(parameter, "ds_tensor"):
            return parameter.ds_tensor.detach().view(-1)[: stop - start]
        return parameter.detach().view(-1)[start:stop]


def full_shape(parameter: nn.Parameter) -> torch.Size:
    """The shape of a parameter, also where ZeRO-3 holds a slice of it."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))
