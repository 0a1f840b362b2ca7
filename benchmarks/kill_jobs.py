"""A job of before/after pairs on a two-node Ray cluster, killed at random moments, against one that nobody killed.

    python benchmarks/kill_jobs.py                        # 2,000 pairs, 30 kills, two raylets on this machine
    python benchmarks/kill_jobs.py --pairs 400 --kills 6 --seed 1

Each round starts the job in a fresh folder and, at a random moment of it, sends SIGKILL to the driver, to a worker, or
to all processes of the second node, in turn; a job that had ended by then does not count. The job is started again
until it ends well. Then the shards must be those of the unbroken run, byte for byte, and for every step rows in = rows
kept + rows rejected. Exits with 1 where one round does not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import cv2
import numpy as np
import psutil
import yaml
from PIL import Image

from jobs.run_manifest import read_run_manifest
from pipelines.synthesis.photographs import load_photographs

SIDE = 192
KINDS = ("driver", "worker", "node")
WORK = ("ray::Map", "ray::_guarded")
"""Names of processes that run the job's own tasks; others are Ray's."""
MOST_STARTS = 4
"""Starts after a kill until a round is given up."""


def write_pairs(folder: Path, count: int, side: int = SIDE) -> None:
    """Crops of photographs, `side` pixels wide and high; four of five get an ellipse of one colour, and one of a
    hundred has a broken target."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    photographs = [photograph.pixels for photograph in load_photographs()]
    lines = []
    for number in range(count):
        pixels = photographs[number % len(photographs)]
        top, left = (int(generator.integers(0, length - side + 1)) for length in pixels.shape[:2])
        before = pixels[top : top + side, left : left + side].copy()
        after = before.copy()
        if number % 5:
            middle = tuple(int(one) for one in generator.integers(40, side - 40, 2))
            colour = [int(one) for one in generator.integers(0, 256, 3)]
            after = np.asarray(cv2.ellipse(after, middle, (30, 18), float(number % 180), 0, 360, colour, -1))
        names = [f"{number:06d}-{part}.jpg" for part in ("before", "after")]
        for name, image in zip(names, (before, after), strict=True):
            Image.fromarray(image).save(folder / name, quality=92)
        if number % 100 == 99:
            (folder / names[1]).write_bytes(b"\xff\xd8\xff broken")
        lines.append({"reference": names[0], "target": names[1], "instruction": f"change number {number}"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@dataclass
class Nodes:
    """Two raylets on this machine: the head with a core, and a second node with another that may be killed."""

    cluster: Any
    second: Any

    @classmethod
    def start(cls) -> Nodes:
        """Start both."""
        from ray.cluster_utils import Cluster

        store = {"object_store_memory": 256 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **store})
        return cls(cluster, cluster.add_node(num_cpus=1, **store))

    def kill_second(self) -> None:
        """SIGKILL to everything that belongs to the second node; then a new one joins."""
        for infos in list(self.second.all_processes.values()):
            for info in infos:
                _kill_with_children(info.process.pid)
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = self.cluster.add_node(num_cpus=1, object_store_memory=256 * 2**20)

    def workers(self) -> list[psutil.Process]:
        """The processes that run the job's tasks, on both nodes."""
        found = []
        for node in self.cluster.list_all_nodes():
            for info in node.all_processes.get("raylet", []):
                children = psutil.Process(info.process.pid).children()
                found += [one for one in children if one.name().startswith(WORK)]
        return found

    def stop(self) -> None:
        """End both."""
        self.cluster.shutdown()


def _kill_with_children(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in family:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue


def start_job(config: Path, address: str, log: Path) -> subprocess.Popen[bytes]:
    """The job as a user starts it."""
    command = [sys.executable, "-m", "jobs", "run", str(config), "--runner", "ray", "--address", address]
    return subprocess.Popen(command, stdout=log.open("ab"), stderr=subprocess.STDOUT)


def write_config(folder: Path, pairs: Path) -> Path:
    """Masks with the default recipe, then a pack; 64 partitions."""
    count = sum(1 for _ in (pairs / "pairs.jsonl").open())
    values = {
        "name": folder.name,
        "output": str(folder / "run"),
        "source": {"edit_pairs_jsonl": {"path": str(pairs), "rows_per_partition": max(1, count // 64)}},
        "steps": [{"masks": {}}],
        "pack": {"output": str(folder / "shards"), "samples_per_shard": 100},
    }
    folder.mkdir(parents=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def digests(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def faults(folder: Path, whole: Path, pairs: int) -> list[str]:
    """What does not hold of a job that ended well."""
    found = []
    if digests(folder / "shards") != digests(whole / "shards"):
        found.append("the shards differ")
    if digests(folder / "run" / "outcomes") != digests(whole / "run" / "outcomes"):
        found.append("the outcomes differ")
    manifest = read_run_manifest(folder / "run")
    rows = pairs
    for stage in (*manifest.stages, *([manifest.pack] if manifest.pack else [])):
        if stage.rows_in != rows or stage.rows_in != stage.kept + sum(stage.rejected.values()):
            found.append(f"the rows of {stage.name} do not add up")
        rows = stage.kept
    left = [path.name for path in folder.rglob("*.partial")]
    return found + [f"left behind: {name}" for name in left]


def strike(kind: str, job: subprocess.Popen[bytes], nodes: Nodes, choose: random.Random) -> str | None:
    """Send SIGKILL to one of `kind`; what was hit, in words, or None where the job had ended by then."""
    if job.poll() is not None:
        return None
    if kind == "driver":
        job.kill()
        return f"driver {job.pid}"
    if kind == "node":
        nodes.kill_second()
        return "the second node"
    workers = nodes.workers()
    while not workers and job.poll() is None:
        time.sleep(0.02)
        workers = nodes.workers()
    if not workers:
        return None
    victim = choose.choice(workers)
    name = victim.name()
    victim.send_signal(signal.SIGKILL)
    return f"worker {victim.pid} ({name})"


def run_round(
    kind: str, moment: float, folder: Path, pairs: Path, nodes: Nodes, choose: random.Random
) -> tuple[str | None, int]:
    """One killed job, started again until it ends well: (what was hit, starts)."""
    config, log = write_config(folder, pairs), folder / "log"
    job = start_job(config, nodes.cluster.address, log)
    time.sleep(moment)
    hit = strike(kind, job, nodes, choose)
    starts = 1
    while job.wait() != 0:
        if starts == MOST_STARTS:
            raise SystemExit(f"{folder.name}: gave up after {starts} starts; see {log}")
        job = start_job(config, nodes.cluster.address, log)
        starts += 1
    return hit, starts


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What `call` gives, and the seconds it took."""
    started = time.monotonic()
    result = call()
    return result, time.monotonic() - started


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder, removed at the end)")
    options = parser.parse_args()
    place = options.folder or Path(mkdtemp(prefix="kill-jobs-"))
    pairs = place / "pairs"
    write_pairs(pairs, options.pairs)
    choose = random.Random(options.seed)
    nodes = Nodes.start()
    bad = 0
    try:
        whole = place / "whole"
        for _ in range(2):  # The first also starts Ray's workers, which stay.
            shutil.rmtree(whole, ignore_errors=True)
            status, seconds = timed(start_job(write_config(whole, pairs), nodes.cluster.address, whole / "log").wait)
            if status != 0 or faults(whole, whole, options.pairs):
                raise SystemExit(f"the unbroken run failed; see {whole / 'log'}")
        print(f"unbroken: {options.pairs} pairs in {seconds:.1f} s, {len(digests(whole / 'shards'))} files", flush=True)
        number = 0
        while number < options.kills:
            kind, moment, folder = KINDS[number % 3], choose.uniform(0.0, 0.95 * seconds), place / f"round-{number}"
            result, took = timed(lambda: run_round(kind, moment, folder, pairs, nodes, choose))  # noqa: B023
            hit, starts = result
            wrong = faults(folder, whole, options.pairs)
            bad += bool(wrong)
            verdict = "; ".join(wrong) or "same bytes, sums add up"
            told = hit or "nobody, the job had ended: does not count"
            print(f"{number:>3}  {moment:5.1f} s  {told}: {starts} starts, {took:.1f} s: {verdict}", flush=True)
            if not wrong:
                shutil.rmtree(folder)
            number += hit is not None or bool(wrong)
            seconds = seconds if hit else min(seconds, took)
    finally:
        nodes.stop()
    print(f"{options.kills - bad} of {options.kills} rounds ended as the unbroken run")
    if options.folder is None and not bad:
        shutil.rmtree(place)
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    main()
