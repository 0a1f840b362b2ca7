"""One rank of several runs, one after the other: `python rank_worker.py JOBS.json`, with RANK and so on set.

The list in JOBS.json holds training configs; `sigterm_at` in one asks that run to stop after a step, and `stops` in one
expects that run to stop by itself, and writes why to `stopped-RANK` in its folder. `as_on_gpus` runs what is for GPUs
only: the check of the machine is passed over, and what is sent to a GPU stays.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from schemas.config import parse_config
from trainer import distributed, session
from trainer.config import TrainConfig
from trainer.errors import TrainingStopped
from trainer.train import train


def main(jobs: list[dict[str, Any]]) -> None:
    """Run the jobs; a job with `sigterm_at` asks itself to stop at that step."""
    for job in jobs:
        at, stops = job.pop("sigterm_at", None), job.pop("stops", False)
        as_on_gpus = job.pop("as_on_gpus", False)

        def ask(record: dict[str, Any], at: int | None = at) -> None:
            if record["step"] == at:
                os.kill(os.getpid(), signal.SIGTERM)

        if as_on_gpus:
            session.check_optimizer = lambda config, ranks: None
            torch.Tensor.cuda = lambda tensor: tensor  # type: ignore[method-assign]
        try:
            train(parse_config(TrainConfig, job, "job"), on_step=ask)
        except TrainingStopped as stopped:
            if not stops:
                raise
            (Path(job["output"]) / f"stopped-{os.environ['RANK']}").write_text(str(stopped))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
    distributed.leave(0)
