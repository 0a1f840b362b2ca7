"""What checkpoints and export will take on the disk, told before the first step."""

from __future__ import annotations

import shutil
from pathlib import Path

from schemas.errors import OutputError
from trainer.measures.memory import gib

FLOAT32 = 4


def checkpoint_bytes(trainable: int, state: int, averages: bool) -> int:
    """About the size of a checkpoint, all ranks' files together: float32 weights, the optimizer's state, the average.

    Args:
        trainable: number of trainable parameters.
        state: bytes of the optimizer's state for each of them.
        averages: whether the run keeps a moving average.
    """
    return trainable * (FLOAT32 + state + (FLOAT32 if averages else 0))


def bytes_needed(checkpoint: int, export: int, there: int, coming: int, kept: int) -> int:
    """The most bytes that a run will have added at any moment.

    Args:
        checkpoint: size of one.
        export: size of the export at the end.
        there: complete checkpoints already there.
        coming: checkpoints that the run will write.
        kept: checkpoints kept; for a moment there is one more, since an old one goes once the new one is whole.
    """
    most = max(0, min(there + coming, kept + 1) - there)
    last = max(0, min(there + coming, kept) - there)
    return max(most * checkpoint, last * checkpoint + export)


def check_room(run: Path, needed: int, checkpoint: int) -> None:
    """Raise unless the disk of `run`, which need not exist yet, has room.

    Raises:
        OutputError: it has not.
    """
    there = next(folder for folder in (run, *run.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OutputError(
            "output",
            str(run),
            f"has {gib(free)} free; the run's checkpoints, {gib(checkpoint)} each, and its export take {gib(needed)}",
            "Free space there, choose another place, or lower checkpoints.keep_last.",
        )
