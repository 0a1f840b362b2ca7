"""How masks and packing scale from one worker to two, and whether memory stays flat as the input grows.

    python benchmarks/scaling.py                          # 1,000 and 10,000 pairs of 256 x 256 pixels
    python benchmarks/scaling.py --pairs 300 3000

Every row is one `editmill run` on a Ray cluster of its own; rates are taken from the run's log, between the first and
the last commit, so that Ray's start-up stands apart. Memory is the largest sum over the driver and all of its
descendants, in proportional set size: shared pages are counted once.

Processor seconds are those of the whole run, start-up included, of the driver, of the workers, and of Ray's own
processes; `busy` is their sum over the run's seconds times the machine's cores. Where one worker already leaves little
of the cores idle, or others use them, a second one cannot bring much: that is then the machine, not the job.
"""

from __future__ import annotations

import argparse
import json
import os
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
KINDS = ("driver", "workers", "ray")
"""Whose the processor seconds are."""


@dataclass(frozen=True)
class Rates:
    """One run: pairs a second in each part, seconds before the first commit, peak memory in MiB, and processor seconds
    by whose they are."""

    masks: float
    pack: float
    start_up: float
    driver: float
    all_processes: float
    processor: dict[str, float]
    busy: float


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
    spent: dict[int, tuple[str, float]] = {}
    watcher = threading.Thread(target=_watch, args=(process, peaks, spent), daemon=True)
    watcher.start()
    if process.wait() != 0:
        raise SystemExit(f"the run of {count} pairs with {workers} workers failed")
    watcher.join()
    seconds = (datetime.now().astimezone() - started).total_seconds()
    processor = {kind: sum(used for whose, used in spent.values() if whose == kind) for kind in KINDS}
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
        processor,
        sum(processor.values()) / seconds / (os.cpu_count() or 1),
    )


def _rate(times: Sequence[datetime], rows: int) -> float:
    return rows / max((times[-1] - times[0]).total_seconds(), 1e-3)


def _watch(process: subprocess.Popen[bytes], peaks: list[float], spent: dict[int, tuple[str, float]]) -> None:
    """Keep the largest memory of the driver and of everything it started, and what each has used of the processor."""
    driver = psutil.Process(process.pid)
    looks = 0
    while process.poll() is None:
        try:
            family = [driver, *driver.children(recursive=True)]
            for one in family:
                times = one.cpu_times()
                spent[one.pid] = (_whose(one, driver), times.user + times.system)
            # Memory is a costly question, and would show in what it measures.
            if looks % 5 == 0:
                sizes = [one.memory_full_info().pss / 2**20 for one in family]
                peaks[0], peaks[1] = max(peaks[0], sizes[0]), max(peaks[1], sum(sizes))
        except psutil.Error:
            continue
        looks += 1
        time.sleep(0.2)


def _whose(process: psutil.Process, driver: psutil.Process) -> str:
    if process.pid == driver.pid:
        return "driver"
    # A worker that is idle calls itself ray::IDLE; before it has a task, by its script.
    named = " ".join(process.cmdline()[:3])
    return "workers" if named.startswith("ray::") or "default_worker.py" in named else "ray"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 10000])
    options = parser.parse_args()
    told = "  ".join(f"{kind + ' cpu s':>13}" for kind in KINDS)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"  pairs  workers  masks/s   pack/s  start-up s  driver MiB  all MiB  {told}   busy", flush=True)
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
                    f"{one.driver:10.0f}  {one.all_processes:7.0f}  "
                    + "  ".join(f"{one.processor[kind]:13.1f}" for kind in KINDS)
                    + f"  {one.busy:5.0%}",
                    flush=True,
                )
        two = rates[2]
        print(f"         2 / 1    {two.masks / rates[1].masks:6.2f}x  {two.pack / rates[1].pack:6.2f}x", flush=True)


if __name__ == "__main__":
    main()
