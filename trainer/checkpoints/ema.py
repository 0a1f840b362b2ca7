"""The moving average of the trainable parameters, sharded over the ranks as ZeRO-3 shards parameters.

Rank r of W keeps the elements [r * s, (r + 1) * s) of each flattened parameter, s = ceil(n / W). Without ZeRO-3 it cuts
that slice out of the full parameter it holds; with ZeRO-3 the slice is all it holds. So an update needs no
communication, and the memory is 4 bytes an element divided by the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import distributed, nn

from trainer.checkpoints.shard_bounds import full_shape, shard_bounds
from trainer.checkpoints.slices import Slice, SliceReader, write_slices
from trainer.config import EmaConfig
from trainer.distributed import Ranks

AVERAGE = "average"


def decay_at(updates: int, decay: float, warmup: bool = True) -> float:
    """With warm-up min((1 + s) / (10 + s), decay), with s the updates made before: the average follows quickly while it
    is young; without, `decay`."""
    return min((1 + updates) / (10 + updates), decay) if warmup else decay


class ShardedEma:
    """The float32 average of every trainable parameter, this rank's part of it.

    It starts from the parameters as they are (rounded to the training dtype), and follows them in float32.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], ranks: Ranks, config: EmaConfig) -> None:
        """`parameters`: the trainable ones by name, as the engine holds them."""
        self._parameters = dict(parameters)
        self._ranks = ranks
        self._config = config
        self.updates = 0
        """Updates made so far."""
        slices = {name: self._slice(parameter) for name, parameter in self._parameters.items()}
        # A copy, also of a parameter that is float32 and on the CPU already.
        self.shards = {name: _like(values, config.device).copy_(values) for name, values in slices.items()}
        """This rank's slice of each average, flat; empty where a small parameter has none for it."""
        self._landing = _Landing(slices) if config.device == "cpu" else None

    @torch.no_grad()
    def update(self) -> None:
        """Follow the parameters by one step. Call after each optimizer step, and at no other micro-batch."""
        decay = decay_at(self.updates, self._config.decay, self._config.warmup)
        slices = {name: self._slice(parameter) for name, parameter in self._parameters.items()}
        for name, values in slices.items() if self._landing is None else self._landing.each(slices):
            self.shards[name].mul_(decay).add_(values.float(), alpha=1.0 - decay)
        self.updates += 1

    def save(self, path: Path) -> int:
        """Write this rank's shards as slices, which any number of ranks can read; returns the size in bytes.

        Raises:
            OSError: it cannot be written.
        """
        totals = {name: full_shape(parameter).numel() for name, parameter in self._parameters.items()}
        slices = {
            f"{AVERAGE}/{name}": Slice(self._bounds(totals[name])[0], totals[name], shard)
            for name, shard in self.shards.items()
        }
        return write_slices(path, slices, {"updates": self.updates})

    def load(self, reader: SliceReader, updates: int) -> None:
        """Go on from what any number of ranks saved.

        Raises:
            InputError: the files do not hold every parameter whole.
        """
        for name, shard in self.shards.items():
            start, _ = self._bounds(full_shape(self._parameters[name]).numel())
            reader.read_into(f"{AVERAGE}/{name}", start, shard)
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
            padded[: self.shards[name].numel()] = self.shards[name]
            parts = [torch.empty_like(padded) for _ in range(self._ranks.world)]
            distributed.all_gather(parts, padded)
            yield name, torch.cat(parts)[:elements].view(shape).cpu()

    def _bounds(self, elements: int) -> tuple[int, int]:
        return shard_bounds(elements, self._ranks.rank, self._ranks.world)

    def _slice(self, parameter: nn.Parameter) -> torch.Tensor:
        start, stop = self._bounds(full_shape(parameter).numel())
        if hasattr(parameter, "ds_tensor"):
            return parameter.ds_tensor.detach().view(-1)[: stop - start]
        return parameter.detach().view(-1)[start:stop]


class _Landing:
    """Two buffers on the CPU through which slices come from the device: one is filled while the other is read. With a
    GPU they are page-locked, and the copies run beside the processor's work."""

    def __init__(self, slices: Mapping[str, torch.Tensor]) -> None:
        """`slices`: as `each` will get them; all of one dtype and on one device."""
        longest = max((len(values) for values in slices.values()), default=0)
        one = next(iter(slices.values()))
        self._buffers = [torch.empty(longest, dtype=one.dtype, pin_memory=one.is_cuda) for _ in range(2)]
        self._arrived = [torch.cuda.Event() for _ in range(2)] if one.is_cuda else []

    def each(self, slices: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and slice on the CPU, in order; a slice may be used until the next is asked for."""
        items = list(slices.items())
        for place in range(len(items) + 1):
            if place < len(items):
                values = items[place][1]
                self._buffers[place % 2][: len(values)].copy_(values, non_blocking=True)
                if self._arrived:
                    self._arrived[place % 2].record()
            if place:
                name, values = items[place - 1]
                if self._arrived:
                    self._arrived[(place - 1) % 2].synchronize()
                yield name, self._buffers[(place - 1) % 2][: len(values)]


def _like(values: torch.Tensor, device: str) -> torch.Tensor:
    """Room for the average of a slice: beside it, or on the CPU."""
    return torch.empty(len(values), dtype=torch.float32, device="cpu" if device == "cpu" else values.device)
