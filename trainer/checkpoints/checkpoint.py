"""Checkpoints that are whole or not there: trainables, optimizer, moving average, position and random states.

`checkpoints/step-000010/` holds, for each rank, `optimizer-00000.safetensors`, `ema-00000.safetensors` (with a moving
average) and `rank-00000.pt`, and `complete.json`, written last. Frozen weights are not in it: `complete.json` names
their files by content. It is written aside and renamed, so that a run killed at any moment finds the newest complete
one. All ranks must see the same folder.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from schemas.atomic import fingerprint, sync_folder
from schemas.errors import InputError, OutputError
from trainer.checkpoints.ema import ShardedEma
from trainer.checkpoints.model_files import Marks
from trainer.checkpoints.optimizer_state import load_optimizer, load_weights, save_optimizer, trainable
from trainer.checkpoints.random_state import load_random_state, save_random_state
from trainer.checkpoints.retention import steps_to_delete
from trainer.checkpoints.slices import SliceReader
from trainer.config import CheckpointConfig
from trainer.distributed import Ranks
from trainer.optimization.engine import Engine

CHECKPOINTS = "checkpoints"
COMPLETE = "complete.json"
OPTIMIZER = "optimizer"
EMA = "ema"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Args:
        step: optimizer steps done.
        position: samples taken, usable or not; the next step starts here.
        global_batch: samples of a step.
        bad_samples: samples skipped so far.
        ema_updates: updates of the moving average; 0 where the run keeps none.
        ranks: number of processes.
        config: the run's config (`TrainConfig.flat`).
        model: the files of the frozen weights by content.
        samples: which samples the run has, in which order (`TrainingData.fingerprint`); empty in older checkpoints.
        validation: metrics measured with these very weights; empty where none were.
    """

    step: int
    position: int
    global_batch: int
    bad_samples: int
    ema_updates: int
    ranks: int
    config: dict[str, Any]
    model: Marks = field(default_factory=dict)
    samples: str = ""
    validation: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """A checkpoint just written.

    Args:
        folder: where.
        sizes: kind of file -> bytes, of all ranks together.
        deleted: steps of the checkpoints that went.
    """

    folder: Path
    sizes: dict[str, int]
    deleted: list[int]


def complete_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run folder, oldest first."""
    folders = (run / CHECKPOINTS).glob("step-*")
    complete = (folder for folder in folders if (folder / COMPLETE).is_file())
    return sorted(complete, key=step_of)


def step_of(folder: Path) -> int:
    """The step at which a checkpoint was written."""
    return int(folder.name.removeprefix("step-"))


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


def metric_by_step(run: Path, metric: str) -> dict[int, float]:
    """Step -> a validation metric, of the complete checkpoints that have it."""
    found = {step_of(folder): read_progress(folder).validation.get(metric) for folder in complete_checkpoints(run)}
    return {step: value for step, value in found.items() if value is not None}


def save(
    run: Path, engine: Engine, ema: ShardedEma | None, progress: Progress, ranks: Ranks, config: CheckpointConfig
) -> Saved:
    """Write a checkpoint, and delete those that are neither among the last nor the best. A collective.

    Raises:
        OutputError: it cannot be written, on any rank; nothing of it is left, and earlier ones stay.
    """
    final = run / CHECKPOINTS / f"step-{progress.step:06d}"
    aside = final.with_name(f".{final.name}.partial")
    try:
        ranks.together(lambda: _make(aside, final) if ranks.is_first else None)
        own = ranks.together(lambda: _write(aside, final, engine, ema, ranks))
        sizes = {kind: sum(rank[kind] for rank in ranks.gather(own)) for kind in own}
        deleted = ranks.together(lambda: _complete(aside, final, progress, config) if ranks.is_first else [])
    except OutputError:
        if ranks.is_first:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    return Saved(final, sizes, deleted)


def load_core(checkpoint: Path, core: nn.Module) -> None:
    """Put a checkpoint's weights into the parameters of `core` that train. Before the engine is built.

    Raises:
        InputError: a file is missing or does not fit.
    """
    with _reader(checkpoint, OPTIMIZER) as reader:
        load_weights(reader, trainable(core))


def load(checkpoint: Path, engine: Engine, ema: ShardedEma | None, ranks: Ranks) -> Progress:
    """Bring optimizer, moving average and random states to where they stood. On another number of ranks than wrote the
    checkpoint the random states are new ones, which only dropout would notice: noise and timesteps are not drawn from
    them.

    Raises:
        InputError: a file is missing or does not fit.
        ConfigError: as `load_optimizer`.
    """
    progress = read_progress(checkpoint)
    with _reader(checkpoint, OPTIMIZER) as reader:
        load_optimizer(reader, engine, ranks)
    if ema is not None:
        with _reader(checkpoint, EMA) as reader:
            ema.load(reader, progress.ema_updates)
    torch.manual_seed(int(fingerprint([progress.config["seed"], progress.step, ranks.rank]), 16) % 2**63)
    if progress.ranks == ranks.world:
        try:
            load_random_state(checkpoint / _rank_name(ranks.rank), ranks)
        except OSError as error:
            raise InputError("checkpoint", str(checkpoint), f"is incomplete ({error})", "Delete it.") from error
    return progress


def _reader(checkpoint: Path, kind: str) -> SliceReader:
    return SliceReader([checkpoint / _name(kind, rank) for rank in range(read_progress(checkpoint).ranks)])


def _name(kind: str, rank: int) -> str:
    return f"{kind}-{rank:05d}.safetensors"


def _rank_name(rank: int) -> str:
    return f"rank-{rank:05d}.pt"


def _make(aside: Path, final: Path) -> None:
    with _writing(final):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)


def _write(aside: Path, final: Path, engine: Engine, ema: ShardedEma | None, ranks: Ranks) -> dict[str, int]:
    with _writing(final):
        sizes = {OPTIMIZER: save_optimizer(aside / _name(OPTIMIZER, ranks.rank), engine, ranks)}
        if ema is not None:
            sizes[EMA] = ema.save(aside / _name(EMA, ranks.rank))
        save_random_state(aside / _rank_name(ranks.rank), ranks)
    return sizes


def _complete(aside: Path, final: Path, progress: Progress, config: CheckpointConfig) -> list[int]:
    with _writing(final):
        (aside / COMPLETE).write_text(json.dumps(vars(progress), indent=1), encoding="utf-8")
        _sync(aside)
        shutil.rmtree(final, ignore_errors=True)
        aside.replace(final)
        sync_folder(final.parent)
    run = final.parent.parent
    folders = {step_of(folder): folder for folder in complete_checkpoints(run)}
    measured = {} if config.best_metric is None else metric_by_step(run, config.best_metric)
    deleted = steps_to_delete(list(folders), measured, config.keep_last, config.best_is == "lower")
    for step in deleted:
        shutil.rmtree(folders[step], ignore_errors=True)
    return deleted


@contextmanager
def _writing(final: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into an error that names the checkpoint and what is left."""
    try:
        yield
    except OSError as error:
        before = [folder.name for folder in complete_checkpoints(final.parent.parent) if folder != final]
        left = f"started again, the run goes on from {before[-1]}" if before else "there is no earlier checkpoint"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OutputError(
            "checkpoint",
            str(final),
            f"cannot be written ({error.strerror or error})",
            f"{'Free space there' if full else 'Choose another place'}; {left}.",
        ) from error


def _sync(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)
