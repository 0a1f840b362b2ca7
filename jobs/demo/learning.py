"""The demo's model: built on the spot, trained on the shards by `editmill train`, asked for one edit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml

from schemas.atomic import write_bytes
from schemas.errors import ShardError

if TYPE_CHECKING:
    from pipelines.synthesis.photographs import Photograph

RESOLUTION = 128
"""Side in pixels at which the demo trains and edits."""
EDIT_STEPS = 20


def build_model(folder: Path, photographs: Sequence[Photograph], seed: int) -> None:
    """Save the tiny preset, its VAE fitted to the photographs so that a decoded latent can be recognised."""
    from unified_model.tiny import build_tiny

    build_tiny(seed, photographs=[photograph.pixels for photograph in photographs]).save_pretrained(folder)


def train_config(model: Path, shards: Path, output: Path, steps: int, seed: int) -> dict[str, Any]:
    """The demo's training run, as `editmill train` reads it."""
    return {
        "model": str(model),
        "output": str(output),
        "stage": "edit",
        # The stages leave most of a pretrained DiT frozen; this one is random, so all of it has to learn.
        "trainable": ["conditioner", "denoiser"],
        "data": {"shards": [str(shards)], "resolution": RESOLUTION},
        "steps": steps,
        "batch_size": 8,
        "optimizer": {"learning_rate": 4e-3, "warmup_steps": 10},
        "seed": seed,
        "engine": {"zero_stage": 2, "dtype": "float32"},
        "weighting": {"function": "logarithmic"},
        "ema": {"decay": 0.97},
        "checkpoints": {"every": 50, "keep_last": 1},
        "logging": {"every": 25},
    }


def train(config_path: Path, config: dict[str, Any]) -> None:
    """Run `editmill train` in a process of its own (DeepSpeed can be started once in a process).

    Raises:
        ShardError: it ended with another code than 0; what it said stands above.
    """
    write_bytes(config_path, yaml.safe_dump(config, sort_keys=False).encode())
    done = subprocess.run([sys.executable, "-m", "jobs", "train", str(config_path)], check=False)
    if done.returncode:
        raise ShardError("editmill train", done.returncode, "ended with this code", "See its message above.")


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a training run's log, one a step."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def edit(
    export: Path, instruction: str, reference: npt.NDArray[np.uint8], seed: int
) -> dict[str, npt.NDArray[np.uint8]]:
    """The edit by the averaged ("ema") and by the raw weights of a training run's export.

    Args:
        reference: (H, W, 3) uint8.

    Returns:
        name of the weights -> (RESOLUTION, RESOLUTION, 3) uint8.
    """
    from unified_model.pipeline import UnifiedEditPipeline

    return {
        weights: UnifiedEditPipeline.from_pretrained(export, weights=weights)(
            instruction, [reference], height=RESOLUTION, width=RESOLUTION, steps=EDIT_STEPS, seed=seed
        )
        for weights in ("ema", "raw")
    }
