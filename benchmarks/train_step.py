"""A training step: samples/s, TFLOP/s, MFU and memory, and how much faster it is than the obvious loop, in one run.

    python benchmarks/train_step.py                                   # middle size, on a CPU, some minutes
    python benchmarks/train_step.py --size tiny --steps 10

On one H200, at release size with random weights (no download; 128 GB of memory, some minutes each):

    python benchmarks/train_step.py --size release --stage align --batch 4 --gpu H200
    python benchmarks/train_step.py --size release --stage edit --batch 1 --gpu H200
    python benchmarks/train_step.py --size release --stage edit --batch 1 --gpu H200 \\
        --compile inductor --attention flash

Both ways take the very same weights, inputs, noise and weighting, and must come to the same loss in the first step.
`editmill` is the trainer's own session and engine, master weights in float32 and a moving average where the stage
has one; `plain` is `benchmarks/train_step_plain.py`. Loading data is in neither: see `benchmarks/loader.py`. At release
size each runs in a process of its own, and one that does not fit says so; else they take turns, step by step, and each
one's fastest and middle step count. On a GPU the peak of the estimate that `editmill train --dry-run` gives stands
beside `torch.cuda.max_memory_allocated`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from diffusers import FluxTransformer2DModel
from rich.console import Console
from rich.table import Table
from torch import nn
from train_step_plain import PlainLoop

from schemas.config import parse_config
from trainer import distributed
from trainer.adapters import open_stage
from trainer.checkpoints.ema import ShardedEma
from trainer.checkpoints.optimizer_state import trainable
from trainer.config import TrainConfig
from trainer.data.batch import MicroBatch
from trainer.loss.flow_matching import sample_noise, sample_timesteps
from trainer.loss.reduction import local_objective
from trainer.measures.flops import Row, StepFlops
from trainer.measures.gpus import GPUS
from trainer.measures.memory import estimate_memory
from trainer.measures.throughput import memory_of, rows_of
from trainer.optimization import engine as engines
from trainer.optimization.engine import build_engine
from trainer.optimization.kernels import prepare_blocks, recompute_blocks
from trainer.session import DTYPES, Session
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.features import EditInputs
from unified_model.model import UnifiedEditModel
from unified_model.skeleton import Skeleton, release_skeleton, skeleton_of_model
from unified_model.tiny import build_tiny

SIDE = {"tiny": 64, "middle": 128, "release": 512}
"""Pixels of target and reference."""
TEXT = 25
"""Text tokens before the image, and again behind it."""


def main() -> None:
    """Run both ways, or one of them as JSON for the parent."""
    options = _options()
    if options.way:
        way = WAYS[options.way](options)
        loss = way.step()
        for _ in range(options.warmup):
            way.step()
        reset(way.device)
        seconds = [timed(way) for _ in range(options.steps)]
        sys.stdout.write(json.dumps({"loss": loss, **way.result(seconds)}) + "\n")
    elif options.size == "release":
        results = {name: in_a_process(name) for name in WAYS}
        check_same({name: result["loss"] for name, result in results.items() if result}, options.dtype)
        show(options, results)
    else:
        ways = {name: way(options) for name, way in WAYS.items()}
        losses = {name: way.step() for name, way in ways.items()}
        check_same(losses, options.dtype)
        for _ in range(options.warmup):
            [way.step() for way in ways.values()]
        seconds_of: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.steps):
            for name, way in ways.items():
                seconds_of[name].append(timed(way))
        show(options, {name: way.result(seconds_of[name]) for name, way in ways.items()})


class Way(ABC):
    """A model on its device, its inputs, and a step."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.ranks = distributed.start()
        self.device = self.ranks.device
        self.config = config_of(options)
        self.model = build_model(options.size, DTYPES[options.dtype]).to(self.device)
        self.counts = open_stage(self.model.core, self.config)
        self.model.core.train()
        self.batch = micro_batch(self.model, options.batch, SIDE[options.size])
        # Random weights of the release's size have no processor.
        skeleton = Skeleton(self.model.tower, self.model.core, self.model.codec)
        self.flops = StepFlops(skeleton, self.config.engine.recompute_every)
        self.rows = rows_of(self.batch)

    @abstractmethod
    def step(self) -> float:
        """One optimizer step; its loss."""

    def result(self, seconds: list[float]) -> dict[str, Any]:
        """Figures for the table."""
        each = self.config.gradient_accumulation
        return {
            "best": min(seconds),
            "middle": statistics.median(seconds),
            "samples": self.config.batch_size * each,
            "model_flops": self.flops.model_flops(self.rows) * each,
            "hardware_flops": self.flops.hardware_flops(self.rows) * each,
            "memory": memory_of(self.device).peak,
            "on_gpu": self.device.type == "cuda",
        }


class Editmill(Way):
    """The trainer's session and engine."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        prepare_blocks(self.model.core.denoiser.transformer, self.config)
        engine = build_engine(self.model.core, self.config, self.ranks)
        engines.set_learning_rate(engine, self.config.optimizer.learning_rate)
        ema = ShardedEma(trainable(self.model.core), self.ranks, self.config.ema) if self.config.averages else None
        nothing = cast("Any", None)
        self.session = Session(self.config, self.ranks, nothing, self.model, engine, ema, 0, 0, self.counts, 0, nothing)

    def step(self) -> float:
        """As the trainer's loop does it, without logs and checkpoints."""
        session, accumulation = self.session, self.config.gradient_accumulation
        weights, usable = self.batch.weights.to(self.device), self.batch.usable.to(self.device)
        total = torch.zeros((), device=self.device)
        for _ in range(accumulation):
            errors = session.errors(self.batch)
            objective = local_objective(errors, weights, usable, float(weights.numel() * accumulation))
            engines.backward(session.engine, objective, self.config, self.ranks)
            total += objective.detach()
            engines.step(session.engine, self.config)
        if session.ema is not None:
            session.ema.update()
        return float(total)


class Plain(Way):
    """The obvious loop."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        config, positions = self.config, self.batch.positions
        self.loop = PlainLoop(self.model, config)
        pixels = self.batch.target.to(self.device).float() / 127.5 - 1.0
        shape = (self.model.codec.channels, *(side // self.model.codec.stride for side in pixels.shape[-2:]))
        tokens = shape[1] * shape[2] // 4
        self.given = (
            self.batch.inputs.to(self.device),
            pixels,
            sample_noise(config.seed, positions, shape).to(self.device),
            sample_timesteps(config.seed, positions, tokens, config.timestep).to(self.device),
            self.batch.weights.to(self.device),
        )

    def step(self) -> float:
        """One step of the loop."""
        return self.loop.step(*self.given)


WAYS: dict[str, type[Way]] = {"editmill": Editmill, "plain": Plain}


def config_of(options: argparse.Namespace) -> TrainConfig:
    """The run's config, as the example configs have it but for what is measured."""
    values = {
        "model": "random weights",
        "output": "none",
        "stage": options.stage,
        "data": {"shards": ["none"], "resolution": SIDE[options.size]},
        "steps": 1,
        "batch_size": options.batch,
        "gradient_accumulation": options.accumulation,
        "engine": {
            "zero_stage": options.zero_stage,
            "dtype": options.dtype,
            "gradient_checkpointing": options.checkpointing,
            "compile": options.compile,
            "attention": options.attention,
        },
        "hardware": {"gpu": options.gpu},
    }
    return parse_config(TrainConfig, values, "benchmark")


def build_model(size: str, dtype: torch.dtype) -> UnifiedEditModel:
    """The same weights every time."""
    torch.manual_seed(0)
    nothing = cast("Any", None)
    if size == "release":
        whole = release_skeleton(dtype, "cuda" if torch.cuda.is_available() else "cpu")
        return UnifiedEditModel(whole.tower, whole.core, whole.codec, nothing, nothing)
    model = build_tiny()
    if size == "middle":
        model.core = EditCore(model.core.conditioner, FluxDenoiser(middle_flux()))
    return nn.Module.to(model, dtype)


def middle_flux() -> FluxTransformer2DModel:
    """FLUX with twelve blocks of width 384, some 45 million parameters."""
    return FluxTransformer2DModel(
        in_channels=64,
        num_layers=4,
        num_single_layers=8,
        attention_head_dim=64,
        num_attention_heads=6,
        joint_attention_dim=64,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(16, 24, 24),
    )


def micro_batch(model: UnifiedEditModel, rows: int, side: int) -> MicroBatch:
    """Noise for pictures and words, in the shapes of an edit with one reference; a quarter of the picture is edited."""
    generator = torch.Generator().manual_seed(1)
    config = model.tower.vlm.config
    vision = config.vision_config
    patches = min(side, 448) // (vision.patch_size * vision.spatial_merge_size) * vision.spatial_merge_size
    seen = patches**2 // vision.spatial_merge_size**2
    ids = torch.randint(10, 90, (rows, 2 * TEXT + seen), generator=generator)
    ids[:, TEXT - 1], ids[:, TEXT + seen] = config.vision_start_token_id, config.vision_end_token_id
    ids[:, TEXT : TEXT + seen] = config.image_token_id
    pixels = 3 * vision.temporal_patch_size * vision.patch_size**2
    siglip = model.tower.siglip.config.image_size
    cells = torch.zeros(rows, 1, side // 8, side // 8, dtype=torch.bool)
    cells[..., : side // 16, : side // 16] = True
    return MicroBatch(
        positions=list(range(rows)),
        keys=[""] * rows,
        shards=[""] * rows,
        datasets=[""] * rows,
        mask_statuses=["ok"] * rows,
        inputs=EditInputs(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == config.image_token_id).long(),
            pixel_values=torch.randn(rows * patches**2, pixels, generator=generator),
            image_grid_thw=torch.tensor([[1, patches, patches]] * rows),
            siglip_pixels=torch.randn(rows, 3, siglip, siglip, generator=generator),
            image_rows=torch.arange(rows),
            image_positions=torch.full((rows,), TEXT + seen),
        ),
        target=torch.randint(0, 256, (rows, 3, side, side), generator=generator, dtype=torch.uint8),
        cells=cells,
        weights=torch.where(cells, 3.0, 1.0),
        usable=torch.ones(rows, dtype=torch.bool),
        bad=[],
    )


def timed(way: Way) -> float:
    """Seconds of a step, all of its kernels done."""
    wait(way.device)
    began = time.perf_counter()
    way.step()
    wait(way.device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """For the GPU, where there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset(device: torch.device) -> None:
    """Forget the peak of memory so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def in_a_process(name: str) -> dict[str, Any] | None:
    """A way's result; None where it ran out of the GPU's memory."""
    call = [sys.executable, __file__, *sys.argv[1:], "--way", name]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode == 0:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result
    if "OutOfMemoryError" in done.stderr:
        return None
    raise SystemExit(done.stderr)


def check_same(losses: dict[str, float], dtype: str) -> None:
    """Both ways compute the same: where not, no time of theirs means anything."""
    if len(losses) < len(WAYS):
        return
    ours, theirs = losses["editmill"], losses["plain"]
    if abs(ours - theirs) > (1e-5 if dtype == "float32" else 2e-2) * abs(theirs):
        raise SystemExit(f"the first losses differ: {losses}")


def show(options: argparse.Namespace, results: dict[str, dict[str, Any] | None]) -> None:
    """The table, the ratio, and the estimate beside the measured memory."""
    console = Console(width=100)
    table = Table("way", "s/step", "middle", "samples/s", "TFLOP/s", "MFU", "HFU", "peak GiB", box=None)
    peak = GPUS[options.gpu].peak_tflops * 1e12 if options.gpu else None
    for name, result in results.items():
        if result is None:
            table.add_row(name, "out of memory")
            continue
        rate, hard = (result[key] / result["best"] for key in ("model_flops", "hardware_flops"))
        shares = ["-", "-"] if peak is None else [f"{rate / peak:.1%}", f"{hard / peak:.1%}"]
        table.add_row(
            name,
            f"{result['best']:.3f}",
            f"{result['middle']:.3f}",
            f"{result['samples'] / result['best']:.2f}",
            f"{rate / 1e12:.3f}",
            *shares,
            f"{result['memory'] / 2**30:.1f}" if result["on_gpu"] else "-",
        )
    console.print(f"{options.size}, {options.stage}, {options.dtype}, batch {options.batch} x {options.accumulation}")
    console.print(table)
    ours, theirs = results["editmill"], results["plain"]
    if ours and theirs:
        ratios = ", ".join(f"{theirs[key] / ours[key]:.2f} by the {key}" for key in ("best", "middle"))
        console.print(f"plain / editmill, time of a step: {ratios}")
    if ours and ours["on_gpu"]:
        estimated = estimate(options)
        error = estimated / ours["memory"] - 1
        console.print(f"memory: {estimated / 2**30:.1f} GiB estimated, {error:+.1%}")


def estimate(options: argparse.Namespace) -> int:
    """What a dry run would say of the peak."""
    config = config_of(options)
    if options.size == "release":
        skeleton = release_skeleton(DTYPES[options.dtype])
    else:
        whole = skeleton_of_model(build_model(options.size, DTYPES[options.dtype]).to("meta"))
        skeleton = Skeleton(whole.tower, whole.core, whole.codec)
    open_stage(skeleton.core, config)
    skeleton.core.train()
    recompute_blocks(skeleton.core.denoiser.transformer, config.engine.recompute_every)
    side = SIDE[options.size]
    seen = 32 if options.size == "release" else side // 28 * 2
    row = Row(side, side, 2 * TEXT + seen**2 // 4, ((seen, seen),))
    return estimate_memory(config, skeleton, 1, [row] * options.batch).peak


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIDE), default="middle")
    parser.add_argument("--stage", default="edit")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--dtype", choices=list(DTYPES), default=None)
    parser.add_argument("--zero-stage", type=int, default=0)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--compile", default="none")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--gpu", choices=list(GPUS), default=None, help="for MFU and HFU")
    parser.add_argument("--way", choices=list(WAYS), default=None, help="run one only, and print JSON")
    options = parser.parse_args()
    options.dtype = options.dtype or ("bfloat16" if options.size == "release" else "float32")
    return options


if __name__ == "__main__":
    main()
