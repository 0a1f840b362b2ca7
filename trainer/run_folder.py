"""A run's folder: may this config start, go on, or has it finished?"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from schemas.atomic import write_bytes, writing
from schemas.errors import ConfigError
from schemas.folders import check_can_be_folder, check_holds_only
from trainer.checkpoints.checkpoint import CHECKPOINTS, complete_checkpoints, read_progress
from trainer.config import TrainConfig
from trainer.config.train import identity_of
from trainer.distributed import Ranks
from trainer.export import EXPORT
from trainer.signals import STOP_FILE

CONFIG = "config.yaml"
LOCK = ".lock"
"""Held with flock while a run writes."""
LOG = "log.jsonl"
RAY = ".ray"
"""What Ray Train notes of its attempts."""
SKIPPED = "skipped.jsonl"
TENSORBOARD = "tensorboard"
VALIDATION = "validation"
"""One folder a validation, `step-000100/`."""
VALIDATION_LOG = "validation.jsonl"
WANDB = "wandb"
WANDB_ID = "wandb-id.txt"
"""The run's id at Weights & Biases."""
REPORT = "report.html"


_FILES = (CONFIG, LOG, SKIPPED, VALIDATION_LOG, WANDB_ID, REPORT, STOP_FILE)
_FOLDERS = (TENSORBOARD, VALIDATION, WANDB, RAY)
"""What a run may have written before its first checkpoint."""


@dataclass(frozen=True)
class Start:
    """How a run starts.

    Args:
        checkpoint: the checkpoint to go on from, or None for a fresh start.
        step: steps done there.
        finished: the run has done all its steps and was exported: there is nothing to do.
        bad_samples: samples skipped so far.
    """

    checkpoint: Path | None
    step: int
    finished: bool
    bad_samples: int = 0


def look(config: TrainConfig, ranks: int) -> Start:
    """What the run's folder holds; changes nothing.

    Raises:
        ConfigError: it holds a run with another config, or with another global batch; or more steps are done there than
            this config asks for.
        InputError: the newest complete checkpoint cannot be read.
    """
    run = Path(config.output)
    checkpoints = complete_checkpoints(run)
    if not checkpoints:
        return Start(None, 0, False)
    progress = read_progress(checkpoints[-1])
    ours, theirs = config.identity(), identity_of(progress.config)
    changed = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
    if changed:
        raise ConfigError(
            changed[0],
            ours.get(changed[0]),
            f"differs from the run in {run}, which had {theirs.get(changed[0])!r}",
            "Take another output folder, or start over with --restart.",
        )
    if progress.global_batch != config.global_batch(ranks):
        raise ConfigError(
            "batch_size x gradient_accumulation x processes",
            config.global_batch(ranks),
            f"differs from the run in {run}, which takes {progress.global_batch} samples a step",
            _same_global_batch(config, progress.global_batch, ranks),
        )
    if progress.step > config.steps:
        raise ConfigError(
            "steps", config.steps, f"the run in {run} has done {progress.step}", "Raise it, or use --restart."
        )
    finished = progress.step == config.steps and (run / EXPORT).is_dir()
    return Start(checkpoints[-1], progress.step, finished, progress.bad_samples)


def _same_global_batch(config: TrainConfig, global_batch: int, ranks: int) -> str:
    accumulation, rest = divmod(global_batch, config.batch_size * ranks)
    if rest:
        return f"Take a number of processes of which {global_batch} is a multiple, and a batch_size that fits."
    return f"With {ranks} processes and batch_size={config.batch_size} say gradient_accumulation={accumulation}."


@contextmanager
def held(config: TrainConfig, ranks: Ranks) -> Iterator[None]:
    """Hold the run's folder, so that two runs never write into one. A collective; the lock dies with its process.

    Raises:
        ConfigError: another run holds it.
        InputError: it cannot be a folder, or holds something else than a training run.
        OutputError: it cannot be made.
    """
    lock = ranks.together(lambda: _lock(Path(config.output)) if ranks.is_first else None)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(run: Path) -> int:
    check_can_be_folder(run, "output")
    if not (run / CHECKPOINTS).exists():
        # What a run that was killed before its first checkpoint may have left.
        check_holds_only(run, "output", (LOCK, *_FILES, *_FOLDERS), "no training")
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError("output", str(run), "another run is writing there", "Wait for its end.") from error
    return descriptor


def clear(config: TrainConfig) -> None:
    """Delete what an earlier run left in the folder, and nothing else."""
    run = Path(config.output)
    for name in (CHECKPOINTS, EXPORT, f".{EXPORT}.partial", *_FOLDERS):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in _FILES:
        (run / name).unlink(missing_ok=True)


def start_over(config: TrainConfig) -> None:
    """Delete what an earlier run left in the folder, where no other process of this run does.

    Raises:
        ConfigError, InputError, OutputError: as `held`.
    """
    lock = _lock(Path(config.output))
    try:
        clear(config)
    finally:
        os.close(lock)


def prepare(config: TrainConfig) -> None:
    """Make the folder, write the resolved config, and delete checkpoints that a killed run left half written."""
    run = Path(config.output)
    for partial in (run / CHECKPOINTS).glob(".*.partial"):
        shutil.rmtree(partial)
    text = yaml.safe_dump(config.as_json(), sort_keys=False, allow_unicode=True)
    write_bytes(run / CONFIG, text.encode())
