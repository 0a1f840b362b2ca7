"""Is there room on the disk for what a planned job will write?"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from jobs.chain import Plan
from jobs.config import PipelineConfig
from jobs.planning.forecast_file import read_forecast
from jobs.run_folder import RunFolder
from schemas.errors import OutputError
from schemas.units import bytes_text

MARGIN = 1.1
"""What is asked for beyond the planned bytes: outcomes, small files, and the plan's own error."""


def check_room(config: PipelineConfig, plan: Plan) -> None:
    """Hold the bytes that were planned, less those that earlier starts have written, against what is free; without a
    forecast nothing is known.

    Args:
        plan: of the chain.

    Raises:
        OutputError: there is too little room.
    """
    expected = read_forecast(config.folder, plan.fingerprint)
    if expected is None:
        return
    needs = [("output", config.folder, expected.run_bytes, RunFolder(config.folder).written(plan))]
    if config.shards is not None:
        standing = (path for path in config.shards.rglob("*") if path.is_file())
        needs.append(("pack.output", config.shards, expected.shard_bytes, standing))
    on_disk: dict[int, float] = {}
    for field, folder, planned, files in needs:
        place = _existing(folder)
        device = place.stat().st_dev
        on_disk[device] = on_disk.get(device, 0.0) + max(0.0, MARGIN * planned - _size(files))
        free, needed = shutil.disk_usage(place).free, on_disk[device]
        if free < needed:
            raise OutputError(
                field,
                str(place),
                f"has {bytes_text(free)} free, and the plan expects to write {bytes_text(needed)}",
                "Free some, or name a folder on a larger disk.",
            )


def _size(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path
