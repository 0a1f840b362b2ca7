"""How masks and packing scale from one worker to two, and whether memory stays flat as the input grows.

    python benchmarks/scaling.py                          # 1,000 and 10,000 pairs of 256 x 256 pixels
    python benchmarks/scaling.py --pairs 300 3000

Every row is one `editmill run` on a Ray cluster of its own; rates are taken from the run's log, between the first and
the last commit, so that Ray's start-up stands apart. Memory is the largest sum over the driver and all of its
descendants, in proportional set size: shared pages are counted once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import yaml
from kill_jobs import write_pairs

SIDE = 256


@dataclass(frozen=True)
class Rates:
    """One run: pairs a second in each part, seconds before the first commit, and peak memory in MiB."""

    masks: float
    pack: float
    start_up: float
    driver: float
    all_processes: float


def run(pairs: Path, count: int, workers: int, folder: Path) -> Rates:
    """Mask and pack `count` pairs with `workers` workers."""
    config = {
        "name": "scaling",
        "output": str(folder / "run"),
        "source": {"edit_pairs_jsonl": {"path": str(pairs), "rows_per_partition": 32}},
        "steps": [{"masks": {}}],
        "pack": {"samples_per_shard": 250, "formats": ["webdataset"]},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "jobs", "run", str(path), "--runner", "ray", "--workers", str(workers)]
    started = datetime.now().astimezone()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peaks = [0.0, 0.0]
    watcher = threading.Thread(target=_watch, args=(process, peaks), daemon=True)
    watcher.start()
    if process.wait() != 0:
        raise SystemExit(f"the run of {count} pairs with {workers} workers failed")
    watcher.join()
    masks: list[datetime] = []
    packs: list[datetime] = []
    for line in (folder / "run" / "log.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "committed" and event["stage"] == "masks":
            masks.append(datetime.fromisoformat(event["time"]))
        elif event["event"] == "packing":
            packs.append(datetime.fromisoformat(event["time"]))
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    return Rates(
        _rate(masks, count),
        _rate([masks[-1], *packs], manifest["pack"]["rows_in"]),
        (masks[0] - started).total_seconds(),
        *peaks,
    )


def _rate(times: Sequence[datetime], rows: int) -> float:
    return rows / max((times[-1] - times[0]).total_seconds(), 1e-3)


def _watch(process: subprocess.Popen[bytes], peaks: list[float]) -> None:
    """Keep the largest memory of the driver, and of everything it started."""
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            own = driver.memory_full_info().pss / 2**20
            whole = own
            for child in driver.children(recursive=True):
                whole += child.memory_full_info().pss / 2**20
        except psutil.Error:
            continue
        peaks[0], peaks[1] = max(peaks[0], own), max(peaks[1], whole)
        time.sleep(0.5)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 10000])
    options = parser.parse_args()
    print("  pairs  workers  masks/s   pack/s  start-up s  driver MiB  all processes MiB", flush=True)
    for count in options.pairs:
        rates: dict[int, Rates] = {}
        with TemporaryDirectory() as place:
            pairs = Path(place) / "pairs"
            write_pairs(pairs, count, SIDE)
            for workers in (1, 2):
                folder = Path(place) / str(workers)
                folder.mkdir()
                one = rates[workers] = run(pairs, count, workers, folder)
                print(
                    f"{count:>7}  {workers:>7}  {one.masks:7.1f}  {one.pack:7.1f}  {one.start_up:10.1f}  "
                    f"{one.driver:10.0f}  {one.all_processes:17.0f}",
                    flush=True,
                )
        two = rates[2]
        print(f"         2 / 1    {two.masks / rates[1].masks:6.2f}x  {two.pack / rates[1].pack:6.2f}x", flush=True)


if __name__ == "__main__":
    main()
