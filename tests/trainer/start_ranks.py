"""Two ranks of `rank_worker.py`, started and waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from trainer.distributed import RENDEZVOUS

WORKER = Path(__file__).with_name("rank_worker.py")


def run_ranks(jobs: list[dict[str, Any]], folder: Path, world: int = 2, timeout: float = 150) -> None:
    """Run the jobs one after the other on `world` ranks, one process a rank for all of them.

    Args:
        folder: for what the processes are told and say; made here.
    """
    folder.mkdir()
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = os.environ | {
        "WORLD_SIZE": str(world), RENDEZVOUS: f"file://{folder / 'rendezvous'}", "OMP_NUM_THREADS": "1"
    }  # fmt: skip
    errors = [folder / f"stderr-{rank}" for rank in range(world)]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder / "jobs.json")],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=errors[rank].open("wb"),
        )
        for rank in range(world)
    ]
    try:
        codes = [rank.wait(timeout=timeout) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert codes == [0] * world, "".join(error.read_text()[-3000:] for error in errors)
