"""What a step of the real engine takes of memory: called by a test, or run as one rank of several."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from training_data import config_for

from trainer import distributed
from trainer.adapters import open_stage
from trainer.config import TrainConfig
from trainer.measures.live_bytes import LiveBytes
from trainer.optimization import engine as engines
from trainer.optimization.kernels import recompute_blocks
from unified_model.conditioners import MlpConditioner, Widths
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.features import EditFeatures

PROMPT, SIDE = 20, 16


def memory_config(
    zero_stage: int, dtype: str = "bfloat16", accumulation: int = 1, checkpointing: bool = False
) -> TrainConfig:
    """A run that reads nothing and keeps no average."""
    engine = {
        "zero_stage": zero_stage,
        "dtype": dtype,
        "gradient_checkpointing": checkpointing,
        "reduce_bucket_size": 2_000_000,
    }
    nowhere = Path("none")
    return config_for(
        nowhere, nowhere, nowhere, gradient_accumulation=accumulation, ema={"enabled": False}, engine=engine
    )


def middle_core(dtype: torch.dtype) -> EditCore:
    """Ten blocks of real classes, some 16 million parameters."""
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=4,
        num_single_layers=6,
        attention_head_dim=32,
        num_attention_heads=8,
        joint_attention_dim=64,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )
    core = EditCore(MlpConditioner.fresh(Widths(64, 48, 64, 32)), FluxDenoiser(transformer))
    return torch.nn.Module.to(core, dtype).train()


def measured_peak(config: TrainConfig) -> int:
    """Bytes of tensors alive at most in the second step of the real engine, all that stays included."""
    ranks, dtype = distributed.start(), getattr(torch, config.engine.dtype)
    live = LiveBytes("cpu")
    with live:
        core = middle_core(dtype)
        open_stage(core, config)
        recompute_blocks(core.denoiser.transformer, config.engine.recompute_every)
        engine = engines.build_engine(core, config, ranks)
        features = EditFeatures(
            torch.randn(2, PROMPT, 64).to(dtype),
            torch.ones(2, PROMPT, dtype=torch.bool),
            torch.randn(2, 16, 48).to(dtype),
            torch.arange(2),
            torch.tensor([3, 3]),
        )
        for _ in range(2):
            live.peak = live.now
            for _ in range(config.gradient_accumulation):
                velocity = engine(torch.randn(2, 16, SIDE, SIDE), torch.rand(2), features)
                engines.backward(engine, velocity.square().mean(), config, ranks)
                del velocity
                engines.step(engine, config)
    return live.peak


if __name__ == "__main__":
    most = measured_peak(memory_config(int(sys.argv[1])))
    sys.stdout.write(f"{most}\n")
    distributed.leave(0)
