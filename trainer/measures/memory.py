"""Memory of one rank, before the run: what stays, what comes and goes, and the peak.

What stays follows from counts of parameters. What comes and goes with activations is rehearsed on the meta device
(`trainer.measures.rehearsal`). What DeepSpeed adds was read off its ZeRO optimizers and measured with the real engine
(tests/trainer/test_memory.py): with n trainable parameters, R ranks and b bytes an element,

- ZeRO 1 and 2 keep a bucket of reduced gradients during the backward pass, and at the step hold the gradients, a flat
  copy of this rank's n / R, and the same in float32;
- ZeRO 3 keeps bucket and gradients for good, and gathers up to `max_live_parameters` whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from trainer.config import TrainConfig
from trainer.measures.flops import Row
from trainer.measures.frozen_bytes import fetched_towers, frozen_core_bytes, tower_bytes
from trainer.measures.rehearsal import GradientStore, Rehearsal, rehearse
from unified_model.skeleton import Skeleton

MASTER_BYTES = 4
"""Of a float32 master weight, of an averaged weight, and of a gradient as the optimizer takes it."""
MOMENT_BYTES = {"adamw": 8, "adamw_8bit": 2, "prodigy": 16}
"""Optimizer -> bytes of its state for each trainable parameter."""
SUB_GROUP = 1_000_000_000
"""Elements that ZeRO 3 steps at a time."""
CONTEXT_BYTES = int(0.8 * 2**30)
"""What a process takes of a GPU beside torch's allocator: CUDA's context and the libraries' workspaces."""
COLLECTIVE_BYTES = int(0.5 * 2**30)
"""What NCCL takes where there are several ranks."""
SLACK = 0.05
"""Share of what comes and goes that the allocator loses to fragments."""


@dataclass(frozen=True)
class Item:
    """A part of the memory: what it is, its bytes, and how they came about."""

    name: str
    bytes: int
    note: str = ""


@dataclass(frozen=True)
class MemoryEstimate:
    """Of one rank, in bytes.

    Args:
        resident: what stays from the start to the end.
        phases: moments of a step with what each takes on top, of which the largest makes the peak.
        rehearsal: of forward and backward pass, from which the first phase follows.
        overhead: what a GPU needs beside torch's allocations; 0 on a CPU.
        host: in the machine's memory, where something was moved there.
    """

    resident: tuple[Item, ...]
    phases: tuple[Item, ...]
    rehearsal: Rehearsal
    overhead: int
    host: tuple[Item, ...] = ()

    @property
    def peak(self) -> int:
        """The most that is allocated at once, as `torch.cuda.max_memory_allocated` counts."""
        return sum(item.bytes for item in self.resident) + max(item.bytes for item in self.phases)

    @property
    def needed(self) -> int:
        """What the device must have."""
        return self.peak + self.overhead


@dataclass(frozen=True)
class Sizes:
    """Counts of parameters, and bytes an element.

    Args:
        trainable, frozen: of the core.
        element: bytes of a weight.
        ranks: of the run.
        small: elements of parameters that ZeRO 3 leaves whole.
    """

    trainable: int
    frozen: int
    element: int
    ranks: int
    small: int

    @classmethod
    def of(cls, config: TrainConfig, skeleton: Skeleton, ranks: int) -> Sizes:
        """Of a skeleton whose `requires_grad` is set."""
        parameters = list(skeleton.core.parameters())
        trainable = sum(value.numel() for value in parameters if value.requires_grad)
        frozen = sum(value.numel() for value in parameters) - trainable
        small = sum(value.numel() for value in parameters if value.numel() < config.engine.persistence_threshold)
        return cls(trainable, frozen, 2 if config.engine.dtype == "bfloat16" else 4, ranks, small)

    @property
    def own(self) -> int:
        """Trainable elements of this rank, where they are shared out."""
        return math.ceil(self.trainable / self.ranks)


def estimate_memory(
    config: TrainConfig,
    skeleton: Skeleton,
    ranks: int,
    rows: Sequence[Row],
    on_gpu: bool = True,
    rehearsal: Rehearsal | None = None,
) -> MemoryEstimate:
    """Estimate the memory of one rank.

    Args:
        skeleton: in the dtype of the run, with `requires_grad` and recomputation set as in the run.
        rows: the samples of one micro-batch.
        on_gpu: whether the run is on GPUs; on a CPU buffers count as far as they are written to.
        rehearsal: one of the same passes, where there is one already.
    """
    sizes = Sizes.of(config, skeleton, ranks)
    bucket = _bucket(config, sizes, on_gpu)
    rehearsal = rehearsal or rehearse(skeleton, rows, _store(config, sizes), _linear(config))
    resident, host = _resident(config, skeleton, sizes, bucket)
    gathered = _gathered(config, sizes)
    again = _kept_gradients(config, sizes) if config.gradient_accumulation > 1 and config.engine.zero_stage < 3 else 0
    fetched = sum(tower_bytes(skeleton, config)[name] for name in fetched_towers(config))
    passes = rehearsal.peak + again + gathered + (bucket if config.engine.zero_stage in (1, 2) else 0)
    phases = (
        Item("forward and backward", passes, _passes_note(rehearsal, again, gathered)),
        Item("optimizer step", _step(config, sizes), "gradients, flat and in float32"),
        Item("encoding the target", rehearsal.encode, "the VAE"),
        Item("reading the prompt", _towers_work(skeleton, rows, sizes.element) + fetched, "VLM and SigLIP"),
    )
    overhead = 0
    if on_gpu:
        comes_and_goes = max(item.bytes for item in phases)
        overhead = CONTEXT_BYTES + (COLLECTIVE_BYTES if ranks > 1 else 0) + round(SLACK * comes_and_goes)
    return MemoryEstimate(tuple(resident), phases, rehearsal, overhead, tuple(host))


def _resident(config: TrainConfig, skeleton: Skeleton, sizes: Sizes, bucket: int) -> tuple[list[Item], list[Item]]:
    """What stays on the device, and what stays in the machine's memory."""
    engine, parts = config.engine, sizes.ranks if config.engine.zero_stage == 3 else 1
    sharded = sizes.own if engine.zero_stage > 0 else sizes.trainable
    bits = f"{8 * sizes.element} bit"
    beneath = bits if config.frozen.quantise_dit == "none" else config.frozen.quantise_dit
    weights = [
        Item("core, frozen", frozen_core_bytes(skeleton, config) // parts, _count(sizes.frozen, beneath, parts)),
        Item("core, trainable", sizes.trainable * sizes.element // parts, _count(sizes.trainable, bits, parts)),
    ]
    split = sizes.ranks if engine.zero_stage > 0 else 1
    has_master = engine.dtype == "bfloat16" or engine.zero_stage > 0
    state = [Item("master weights", sharded * MASTER_BYTES, _count(sizes.trainable, "32 bit", split))] * has_master
    moments = MOMENT_BYTES[config.optimizer.name]
    state.append(Item("optimizer state", sharded * moments, f"{config.optimizer.name}, {moments} bytes each"))
    resident, host = _towers(skeleton, config)
    (host if engine.offload_parameters else resident).extend(weights)
    (host if engine.offload_optimizer else resident).extend(state)
    if config.averages:
        average = Item("moving average", sizes.own * MASTER_BYTES, _count(sizes.trainable, "32 bit", sizes.ranks))
        (host if config.ema.device == "cpu" else resident).append(average)
    if engine.zero_stage == 3:
        resident.append(Item("gradients", sizes.own * sizes.element, _count(sizes.trainable, bits, sizes.ranks)))
        resident.append(Item("gradient bucket", bucket, "engine.reduce_bucket_size"))
    return resident, host


def _towers(skeleton: Skeleton, config: TrainConfig) -> tuple[list[Item], list[Item]]:
    """On the device, and in the machine's memory."""
    tower, text = skeleton.tower, skeleton.text
    parts = {"VLM": tower.vlm, "SigLIP": tower.siglip, "CLIP": text.clip, "T5": text.t5}
    sizes = {name: size for name, size in tower_bytes(skeleton, config).items() if size}
    towers = {name: Item(name, size, f"{_parameters(parts[name])}, frozen") for name, size in sizes.items()}
    vae = sum(value.numel() * value.element_size() for value in skeleton.codec.parameters())
    codec = Item("VAE", vae, f"{_parameters(skeleton.codec)}, frozen")
    away = [item for name, item in towers.items() if name in fetched_towers(config)]
    return [*(item for item in towers.values() if item not in away), codec], away


def _parameters(module: nn.Module) -> str:
    return f"{_short(sum(value.numel() for value in module.parameters()))} parameters"


def _store(config: TrainConfig, sizes: Sizes) -> GradientStore | None:
    """How gradients gather in the backward pass; with ZeRO 3 in a buffer that stays."""
    engine = config.engine
    if engine.zero_stage == 3 or (engine.offload_optimizer and engine.zero_stage == 2):
        return None
    if engine.zero_stage == 2:
        element = _gradient_bytes(config, sizes)
        return GradientStore(element, 1 / sizes.ranks, engine.reduce_bucket_size, sizes.trainable)
    return GradientStore(sizes.element, 1.0, 0, sizes.trainable)


def _linear(config: TrainConfig) -> Callable[..., torch.Tensor] | None:
    """ZeRO 3 has a linear layer of its own, which keeps its input where the weight is frozen too."""
    if config.engine.zero_stage < 3:
        return None
    from deepspeed.runtime.zero.linear import zero3_linear_wrap

    return cast("Callable[..., torch.Tensor]", zero3_linear_wrap)


def _kept_gradients(config: TrainConfig, sizes: Sizes) -> int:
    """Gradients that stay from one micro-batch to the next."""
    if config.engine.zero_stage == 2:
        return 0 if config.engine.offload_optimizer else sizes.own * _gradient_bytes(config, sizes)
    return sizes.trainable * sizes.element


def _gradient_bytes(config: TrainConfig, sizes: Sizes) -> int:
    return MASTER_BYTES if config.engine.accumulate_in_float32 else sizes.element


def _step(config: TrainConfig, sizes: Sizes) -> int:
    """Gradients, their flat copy and their float32 copy, all of which live at once when the optimizer is about to step;
    with ZeRO 3 what comes on top of the gradients that stay."""
    engine, whole = config.engine, sizes.element == MASTER_BYTES
    if engine.offload_optimizer:
        return 0
    in_float32 = 0 if whole else MASTER_BYTES
    if engine.zero_stage == 0:
        return sizes.trainable * (sizes.element + in_float32)
    if engine.zero_stage == 3:
        return min(sizes.own, SUB_GROUP) * (sizes.element + in_float32)
    gradients = (
        sizes.trainable * sizes.element if engine.zero_stage == 1 else sizes.own * _gradient_bytes(config, sizes)
    )
    return gradients + sizes.own * (sizes.element + in_float32)


def _bucket(config: TrainConfig, sizes: Sizes, on_gpu: bool) -> int:
    engine = config.engine
    if engine.zero_stage == 0:
        return 0
    elements = engine.reduce_bucket_size if on_gpu else min(engine.reduce_bucket_size, sizes.trainable)
    overlaps = engine.zero_stage == 3 if engine.overlap_comm is None else engine.overlap_comm
    buffers = 2 if overlaps and engine.zero_stage < 3 else 1
    return elements * sizes.element * buffers


def _gathered(config: TrainConfig, sizes: Sizes) -> int:
    """With ZeRO 3, parameters that are whole on this rank while they are used, and the buffer in which those to come
    are fetched."""
    engine = config.engine
    if engine.zero_stage < 3 or (sizes.ranks == 1 and not engine.offload_parameters):
        return 0
    total = sizes.trainable + sizes.frozen
    whole = min(engine.max_live_parameters + engine.prefetch_bucket_size, total)
    return (whole + min(engine.prefetch_bucket_size, total - sizes.small)) * sizes.element


def _towers_work(skeleton: Skeleton, rows: Sequence[Row], element: int) -> int:
    """Widest moment of the frozen towers: in an MLP, its two hidden vectors and a few of the stream's width."""
    vlm, siglip = skeleton.tower.vlm.config, skeleton.tower.siglip.config
    prompt = sum(row.prompt_tokens for row in rows)
    patches = sum(height * width for row in rows for height, width in row.grids)
    tokens = sum(len(row.grids) for row in rows) * (siglip.image_size // siglip.patch_size) ** 2
    widest = max(prompt * _widest(vlm.text_config), patches * _widest(vlm.vision_config), tokens * _widest(siglip))
    return int(widest * element)


def _widest(config: object) -> int:
    return 2 * int(config.intermediate_size) + 6 * int(config.hidden_size)  # type: ignore[attr-defined]


def _passes_note(rehearsal: Rehearsal, again: int, gathered: int) -> str:
    note = f"activations {gib(rehearsal.saved)}, with gradients {gib(rehearsal.peak)}"
    if again:
        note += f", those of earlier micro-batches {gib(again)}"
    return note + (f", gathered weights {gib(gathered)}" if gathered else "")


def _count(elements: int, bits: str, parts: int) -> str:
    return f"{_short(elements)} parameters, {bits}" + (f", over {parts} ranks" if parts > 1 else "")


def _short(count: int) -> str:
    for unit, name in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


def gib(size: float) -> str:
    """Bytes as text in GiB, or smaller units where that would be nought."""
    if size >= 2**30 / 10:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:.1f} MiB"
