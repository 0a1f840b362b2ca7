"""What a run will come to, from its config and the configs of its model: no weights, no GPU, no other ranks.

Where the model folder or the shards are not on this machine, the plan says so and goes on with the released model's
sizes and without counts of samples.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from schemas.errors import ConfigError
from trainer.adapters import open_stage
from trainer.config import TrainConfig
from trainer.data.buckets import Bucket, bucket_table
from trainer.data.training_data import TrainingData, open_data
from trainer.measures.flops import Parts, Row, StepFlops
from trainer.measures.gpus import GPUS, told_by_driver
from trainer.measures.memory import MemoryEstimate, estimate_memory
from trainer.optimization.kernels import recompute_blocks
from trainer.stages import PatternCount
from unified_model.skeleton import Skeleton, release_skeleton, skeleton_of_folder

TEXT_TOKENS = 50
"""Text tokens of a prompt: 26 of the template, and an instruction of some 20 words."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Plan:
    """What a run will come to.

    Args:
        model: where the shapes come from, in words.
        is_release: the model folder is not here, and the released model's sizes were taken.
        counts: what each pattern opens.
        core: parameters of the core.
        data: the samples, or None where the shards are not on this machine.
        buckets: the sizes of the run's pictures.
        row: the shape of a sample in the bucket with most tokens, with one reference.
        context_tokens, image_tokens: of a sample in the DiT.
        parts: work of a sample.
        step_flops: model FLOPs of a step over all ranks.
        memory: of one rank.
        gpu: the kind of GPU, or None where it is not known or the run is on a CPU.
        peak_flops: FLOP/s of one, or None.
        on_gpu: whether the run is planned for GPUs.
        device_bytes: memory of one GPU, or None; on a CPU, of this machine for each process.
        ranks, nodes: of the run.
    """

    config: TrainConfig
    model: str
    is_release: bool
    counts: tuple[PatternCount, ...]
    core: int
    data: TrainingData | None
    buckets: tuple[Bucket, ...]
    row: Row
    context_tokens: int
    image_tokens: int
    parts: Parts
    step_flops: float
    memory: MemoryEstimate
    gpu: str | None
    peak_flops: float | None
    on_gpu: bool
    device_bytes: int | None
    ranks: int
    nodes: int

    @property
    def fits(self) -> bool | None:
        """Whether a rank fits its device; None where the device's memory is not known."""
        return None if self.device_bytes is None else self.memory.needed <= self.device_bytes


def plan_run(
    config: TrainConfig, ranks: int | None = None, nodes: int | None = None, device_bytes: int | None = None
) -> Plan:
    """Plan a run.

    Args:
        ranks, nodes: in place of the config's `hardware`.
        device_bytes: memory of one device, in place of what config, table or this machine say.

    Raises:
        ConfigError: the stage does not fit the model; ranks that the nodes do not share evenly; too few samples.
        InputError: the model folder is there, but is none; the same of the shards.
    """
    world = ranks or config.hardware.processes or 1
    machines = nodes or config.hardware.nodes
    if world % machines:
        raise ConfigError("processes", world, f"must be a multiple of nodes ({machines})", "Change one of them.")
    is_release = not Path(config.model).expanduser().exists()
    skeleton, counts = prepared_skeleton(config)
    flops = StepFlops(skeleton, config.engine.recompute_every)
    row = typical_row(config, skeleton)
    rows = [row] * config.batch_size
    gpu = _gpu(config)
    model_flops = flops.model_flops(rows)
    micro_batches = config.gradient_accumulation * world
    known = gpu is not None or config.hardware.memory_gib is not None or device_bytes is not None
    on_gpu = known or torch.cuda.is_available()
    room = _device_bytes(config, gpu) if on_gpu else _machine_bytes() // (world // machines)
    return Plan(
        config=config,
        model="the released UniWorld-V1's sizes" if is_release else config.model,
        is_release=is_release,
        counts=tuple(counts),
        core=sum(value.numel() for value in skeleton.core.parameters()),
        data=_data(config, world),
        buckets=bucket_table(config.data.resolution, config.data.buckets),
        row=row,
        context_tokens=flops.context_tokens(row),
        image_tokens=flops.image_tokens(row),
        parts=flops.sample(row),
        step_flops=model_flops * micro_batches,
        memory=estimate_memory(config, skeleton, world, rows, on_gpu),
        gpu=gpu,
        peak_flops=_peak(config, gpu),
        on_gpu=on_gpu,
        device_bytes=device_bytes or room,
        ranks=world,
        nodes=machines,
    )


def prepared_skeleton(config: TrainConfig) -> tuple[Skeleton, list[PatternCount]]:
    """The model's skeleton as the run will train it, and what each pattern opened; the release's sizes where the model
    folder does not exist.

    Raises:
        ConfigError, InputError: as `plan_run`.
    """
    dtype = DTYPES[config.engine.dtype]
    folder = Path(config.model).expanduser()
    skeleton = skeleton_of_folder(folder, dtype) if folder.exists() else release_skeleton(dtype)
    counts = open_stage(skeleton.core, config)
    for parameter in skeleton.core.parameters():
        # Adapters come in float32 from the meta device's default.
        parameter.data = parameter.data.to(dtype)
    skeleton.core.train()
    recompute_blocks(skeleton.core.denoiser.transformer, config.engine.recompute_every)
    return skeleton, counts


def typical_row(config: TrainConfig, skeleton: Skeleton) -> Row:
    """A sample in the bucket with most tokens, with one reference of that size and an instruction of usual length."""
    bucket = max(bucket_table(config.data.resolution, config.data.buckets), key=lambda one: one.tokens)
    vision = skeleton.tower.vlm.config.vision_config
    unit = vision.patch_size * vision.spatial_merge_size
    least, most = skeleton.vlm_pixels
    height, width = smart_resize(bucket.height, bucket.width, factor=unit, min_pixels=least, max_pixels=most)
    grid = (height // vision.patch_size, width // vision.patch_size)
    prompt = TEXT_TOKENS + grid[0] * grid[1] // vision.spatial_merge_size**2
    joined = ((bucket.height, bucket.width),) if skeleton.takes_reference_latents else ()
    return Row(bucket.height, bucket.width, prompt, (grid,), joined)


def _data(config: TrainConfig, ranks: int) -> TrainingData | None:
    folders = [Path(folder) for dataset in config.data.mixture for folder in dataset.shards]
    return open_data(config, ranks) if all(folder.exists() for folder in folders) else None


def _gpu(config: TrainConfig) -> str | None:
    if config.hardware.gpu is not None:
        return config.hardware.gpu
    if not torch.cuda.is_available():
        return None
    known = told_by_driver(torch.cuda.get_device_name())
    return None if known is None else known.name


def _peak(config: TrainConfig, gpu: str | None) -> float | None:
    own = config.hardware.peak_tflops
    if own is not None:
        return own * 1e12
    return None if gpu is None else GPUS[gpu].peak_tflops * 1e12


def _device_bytes(config: TrainConfig, gpu: str | None) -> int | None:
    own = config.hardware.memory_gib
    if own is not None:
        return int(own * 2**30)
    if gpu is not None:
        return int(GPUS[gpu].memory_gib * 2**30)
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return None


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
