"""Checkpoints that are whole or not there: trainables, optimizer, EMA shards, position and random states.

`checkpoints/step-000010/` holds `deepspeed/` (the engine's own files, without frozen parameters), for each rank
`ema-00000.safetensors` and `rank-00000.pt`, and `complete.json`, written last. It is written aside and renamed, so that
a run killed at any moment finds the newest complete one. All ranks must see the same folder.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from schemas.atomic import sync_folder, write_json
from schemas.errors import InputError
from trainer.checkpoints.ema import ShardedEma
from trainer.distributed import Ranks
from trainer.optimization.engine import Engine

CHECKPOINTS = "checkpoints"
COMPLETE = "complete.json"
ENGINE_TAG = "deepspeed"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Args:
        step: optimizer steps done.
        position: samples taken, usable or not; the next step starts here.
        bad_samples: samples skipped so far.
        ema_updates: updates of the moving average.
        ranks: number of processes.
        config: the identity of the run's config (`TrainConfig.identity`).
    """

    step: int
    position: int
    bad_samples: int
    ema_updates: int
    ranks: int
    config: dict[str, Any]


def complete_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run folder, oldest first."""
    folders = (run / CHECKPOINTS).glob("step-*")
    complete = (folder for folder in folders if (folder / COMPLETE).is_file())
    return sorted(complete, key=lambda folder: int(folder.name.removeprefix("step-")))


def read_progress(checkpoint: Path) -> Progress:
    """Where the run stood when it wrote a checkpoint.

    Raises:
        InputError: its `complete.json` cannot be parsed.
    """
    path = checkpoint / COMPLETE
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            "checkpoint", str(path), f"cannot be read ({error})", "Delete this checkpoint to go on from the one before."
        ) from error


def save(run: Path, engine: Engine, ema: ShardedEma | None, progress: Progress, ranks: Ranks, keep_last: int) -> Path:
    """Write a checkpoint and delete the oldest ones beyond `keep_last`. A collective.

    Returns:
        The checkpoint's folder.
    """
    final = run / CHECKPOINTS / f"step-{progress.step:06d}"
    aside = final.with_name(f".{final.name}.partial")
    if ranks.is_first:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    ranks.barrier()
    engine.save_checkpoint(str(aside), tag=ENGINE_TAG, save_latest=False, exclude_frozen_parameters=True)
    if ema is not None:
        save_file(ema.state(), aside / _ema_name(ranks.rank))
    torch.save(_random_state(ranks), aside / _rank_name(ranks.rank))
    ranks.barrier()
    if ranks.is_first:
        write_json(aside / COMPLETE, vars(progress))
        _sync_tree(aside)
        shutil.rmtree(final, ignore_errors=True)
        aside.replace(final)
        sync_folder(final.parent)
        for old in complete_checkpoints(run)[:-keep_last]:
            shutil.rmtree(old)
    ranks.barrier()
    return final


def load(checkpoint: Path, engine: Engine, ema: ShardedEma | None, ranks: Ranks) -> Progress:
    """Bring engine, moving average and random states to where they stood. A collective.

    Raises:
        InputError: a file is missing or does not fit.
    """
    progress = read_progress(checkpoint)
    loaded, _ = engine.load_checkpoint(str(checkpoint), tag=ENGINE_TAG, load_module_strict=False)
    if loaded is None:
        raise InputError("checkpoint", str(checkpoint), "holds no engine state", "Delete it to go on from another.")
    try:
        if ema is not None:
            ema.load(load_file(checkpoint / _ema_name(ranks.rank)), progress.ema_updates)
        _restore_random_state(torch.load(checkpoint / _rank_name(ranks.rank), weights_only=True), ranks)
    except OSError as error:
        raise InputError("checkpoint", str(checkpoint), f"is incomplete ({error})", "Delete it.") from error
    return progress


def _ema_name(rank: int) -> str:
    return f"ema-{rank:05d}.safetensors"


def _rank_name(rank: int) -> str:
    return f"rank-{rank:05d}.pt"


def _random_state(ranks: Ranks) -> dict[str, Any]:
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(ranks.device) if ranks.device.type == "cuda" else None,
    }


def _restore_random_state(state: dict[str, Any], ranks: Ranks) -> None:
    kind, keys, position, has_gauss, cached = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and ranks.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], ranks.device)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        else:
            sync_folder(path)
    sync_folder(folder)
