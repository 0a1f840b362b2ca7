"""One rank of several runs, one after the other: `python rank_worker.py JOBS.json`, with RANK and so on set.

The list in JOBS.json holds training configs; `sigterm_at` in one asks that run to stop after a step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from schemas.config import parse_config
from trainer import distributed
from trainer.config import TrainConfig
from trainer.train import train


def main(jobs: list[dict[str, Any]]) -> None:
    """Run the jobs; a job with `sigterm_at` asks itself to stop at that step."""
    for job in jobs:
        at = job.pop("sigterm_at", None)

        def ask(record: dict[str, Any], at: int | None = at) -> None:
            if record["step"] == at:
                os.kill(os.getpid(), signal.SIGTERM)

        train(parse_config(TrainConfig, job, "job"), on_step=ask)
    distributed.stop()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
