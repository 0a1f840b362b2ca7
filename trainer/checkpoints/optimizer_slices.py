"""Where DeepSpeed keeps the float32 weights that the optimizer steps on: the one file that knows its inner layout.

Every ZeRO stage holds the trainable parameters otherwise: whole (stage 0), as stretches of one flat tensor a group
(stages 1 and 2), or as stretches of flat tensors of sub-groups (stage 3). `optimizer_parts` tells them all in the same
words, so that a checkpoint says nothing of the stage or of the number of ranks that wrote it. Checked with DeepSpeed
0.19.8 by training, stopping and going on in each stage (tests/trainer/test_resume.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from trainer.checkpoints.shard_bounds import full_shape, shard_bounds
from trainer.distributed import Ranks
from trainer.optimization.engine import Engine


@dataclass(frozen=True)
class Part:
    """A stretch of one trainable parameter inside a tensor that the optimizer steps on.

    Args:
        name: of the parameter in the core.
        total: elements of the whole parameter.
        start: the first element of the parameter, flattened, that this rank holds.
        length: how many it holds.
        tensor: the tensor that the optimizer steps on, float32.
        offset: where in it, flattened, the stretch begins.
        writes: [first, last) of the parameter that this rank writes to a checkpoint; less than it holds, where every
            rank holds the same.
    """

    name: str
    total: int
    start: int
    length: int
    tensor: torch.Tensor
    offset: int
    writes: tuple[int, int]

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """This stretch of a tensor in the shape of `tensor`, as a one-dimensional view."""
        return values.detach().view(-1)[self.offset : self.offset + self.length]


def optimizer_parts(engine: Engine, trainable: Mapping[str, nn.Parameter], ranks: Ranks) -> list[Part]:
    """What this rank's optimizer holds of the parameters; over all ranks every element is written by exactly one."""
    wrapper = engine.optimizer
    if hasattr(wrapper, "fp32_partitioned_groups_flat"):
        return list(_stage_3(wrapper, trainable, ranks))
    if any(hasattr(parameter, "_hp_mapping") for parameter in trainable.values()):
        return list(_stages_1_and_2(engine, trainable))
    if hasattr(wrapper, "fp32_groups"):
        pairs = zip(_flat(wrapper.fp16_groups), _flat(wrapper.fp32_groups), strict=True)
        return list(_whole(trainable, {id(parameter): (master, 0) for parameter, master in pairs}, ranks))
    if hasattr(wrapper, "fp32_groups_flat"):
        places = {}
        for group, master in zip(wrapper.fp16_groups, wrapper.fp32_groups_flat, strict=True):
            offset = 0
            for parameter in group:
                places[id(parameter)] = (master, offset)
                offset += parameter.numel()
        return list(_whole(trainable, places, ranks))
    return list(_whole(trainable, {id(parameter): (parameter, 0) for parameter in trainable.values()}, ranks))


def _whole(
    trainable: Mapping[str, nn.Parameter], places: Mapping[int, tuple[torch.Tensor, int]], ranks: Ranks
) -> Iterator[Part]:
    """Stage 0: every rank holds every parameter whole, and writes its share of it."""
    for name, parameter in trainable.items():
        tensor, offset = places[id(parameter)]
        total = parameter.numel()
        yield Part(name, total, 0, total, tensor, offset, shard_bounds(total, ranks.rank, ranks.world))


def _stages_1_and_2(engine: Engine, trainable: Mapping[str, nn.Parameter]) -> Iterator[Part]:
    groups = engine.basic_optimizer.param_groups
    for name, parameter in trainable.items():
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is None:
            continue
        (tensor,) = groups[mapping.param_group_index]["params"]
        start, length = mapping.lp_fragment_address.start, mapping.lp_fragment_address.numel
        offset = mapping.hp_fragment_address.start
        yield Part(name, parameter.numel(), start, length, tensor, offset, (start, start + length))


def _stage_3(wrapper: Engine, trainable: Mapping[str, nn.Parameter], ranks: Ranks) -> Iterator[Part]:
    for name, parameter in trainable.items():
        group, offset, size = wrapper.grad_position[wrapper.get_param_id(parameter)]
        total = full_shape(parameter).numel()
        start, stop = min(ranks.rank * size, total), min((ranks.rank + 1) * size, total)
        if start < stop:
            tensor = wrapper.fp32_partitioned_groups_flat[group]
            yield Part(name, total, start, stop - start, tensor, offset, (start, stop))


def _flat(groups: list[list[torch.Tensor]]) -> Iterator[torch.Tensor]:
    for group in groups:
        yield from group
