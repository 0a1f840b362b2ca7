"""Is there room on the disk for what a planned job will write?"""

from __future__ import annotations

import shutil
from pathlib import Path

from jobs.config import PipelineConfig
from jobs.planning.forecast_file import read_forecast
from schemas.errors import OutputError

MARGIN = 1.1
"""What is asked for beyond the planned bytes: indices, outcomes, and the plan's own error."""


def check_room(config: PipelineConfig, fingerprint: str) -> None:
    """Hold the plan's bytes, once for each shard format, against what is free; without a plan nothing is known.

    Args:
        fingerprint: of the chain.

    Raises:
        OutputError: there is too little room.
    """
    plan = read_forecast(config.folder, fingerprint)
    if plan is None:
        return
    copies = 1 if config.pack is None else len(config.pack.formats)
    place = _existing(config.shards or config.folder)
    free, needed = shutil.disk_usage(place).free, MARGIN * copies * plan.bytes
    if free < needed:
        raise OutputError(
            "pack.output" if config.shards is not None else "output",
            str(place),
            f"has {free / 2**30:,.1f} GiB free, and the plan expects to write {needed / 2**30:,.1f} GiB",
            "Free some, or name a folder on a larger disk.",
        )


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path
