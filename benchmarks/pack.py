"""How fast samples are packed, beside plain `webdataset.ShardWriter` writing the same members of the same samples, in
one run; and how it scales from one worker to two.

    python benchmarks/pack.py                              # 1,500 pairs of 512 x 512
    python benchmarks/pack.py --pairs 300 --repeats 1 --workers 1

Samples come from Parquet files, as they do from a run's records, so each way reads, and writes, the same bytes; the
Parquet shards, which ShardWriter has no equal of, are timed apart. ShardWriter neither checks nor hashes a sample, nor
syncs a shard; packing looks at every image's header and mask, hashes all of it twice (the sample, to know a changed
input; the shard, for the manifest), writes an index, and can be killed. MB/s are of the tars' bytes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

from jobs.runners.config import RunnerConfig
from pipelines.pack import PackConfig, pack
from pipelines.pack.job import RunMap
from pipelines.shards.members import edit_members
from pipelines.synthesis.photographs import encode_jpeg, load_photographs
from schemas.images import encode_mask
from schemas.keys import pair_key
from schemas.records import EDIT_SAMPLE

PER_PARTITION = 64
PER_SHARD = 200


@dataclass(frozen=True)
class FileLoader:
    """A partition that is a Parquet file."""

    path: Path

    def __call__(self) -> pa.Table:
        return pq.read_table(self.path)


def write_samples(folder: Path, count: int, side: int) -> list[FileLoader]:
    """`count` edit samples, crops of photographs with an ellipse painted, as Parquet files of a partition each."""
    generator = np.random.default_rng(0)
    photographs = [photograph.pixels for photograph in load_photographs()]
    large = [one for one in photographs if min(one.shape[:2]) >= side] or [
        cv2.resize(one, (2 * side, 2 * side), interpolation=cv2.INTER_CUBIC) for one in photographs
    ]
    loaders, rows = [], []
    for number in range(count):
        pixels = large[number % len(large)]
        top, left = (int(generator.integers(0, extent - side + 1)) for extent in pixels.shape[:2])
        before = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        mask = np.zeros((side, side), np.uint8)
        middle = tuple(int(one) for one in generator.integers(side // 4, side * 3 // 4, 2))
        cv2.ellipse(mask, middle, (side // 8, side // 12), float(number % 180), 0, 360, 1, -1)
        after = np.where(mask[..., None] > 0, generator.integers(0, 256, 3, np.uint8), before)
        reference, target = encode_jpeg(before, 92), encode_jpeg(after, 92)
        rows.append(
            {
                "key": pair_key([reference], target, f"change {number}"),
                "references": [{"bytes": reference, "path": "before.jpg"}],
                "target": {"bytes": target, "path": "after.jpg"},
                "instruction": f"change {number}",
                "source": "photographs",
                "mask": {"bytes": encode_mask(mask > 0), "path": "mask.png"},
                "mask_status": "ok",
                "edited_fraction": float(mask.mean()),
                "width": side,
                "height": side,
                "mask_recipe": "seed",
                "mask_recipe_version": 1,
                "mask_parameters": "{}",
            }
        )
        if len(rows) == PER_PARTITION or number == count - 1:
            table = EDIT_SAMPLE.conform(pa.Table.from_pylist(rows, schema=_nullable()))
            loaders.append(FileLoader(folder / f"{len(loaders):05d}.parquet"))
            pq.write_table(table, loaders[-1].path, row_group_size=PER_PARTITION)
            rows = []
    return loaders


def shard_writer(loaders: list[FileLoader], out: Path) -> None:
    """Plain webdataset: the same members in shards of as many samples."""
    out.mkdir()
    logging.disable(logging.INFO)
    with webdataset.ShardWriter(str(out / "edits-%06d.tar"), maxcount=PER_SHARD, maxsize=2**40, verbose=0) as sink:
        for loader in loaders:
            table = loader()
            for number in range(table.num_rows):
                row = table.slice(number, 1).to_pylist()[0]
                sink.write({"__key__": row["key"], **dict(edit_members(row))})


def packing(formats: tuple[str, ...], run_map: RunMap = map, **more: Any) -> Callable[[list[FileLoader], Path], None]:
    """Packing, as `editmill pack` does it."""
    config = PackConfig.model_validate({"formats": formats, "samples_per_shard": PER_SHARD, **more})

    def run(loaders: list[FileLoader], out: Path) -> None:
        pack(loaders, config, out, run_map=run_map)

    return run


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1500)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way, taken in turn; the median counts")
    parser.add_argument(
        "--workers", type=int, nargs="*", default=[1, 2], help="numbers of Ray workers; none for no Ray"
    )
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    three = {"train": 0.9, "validation": 0.05, "test": 0.05}
    ways = {
        "webdataset.ShardWriter": shard_writer,
        "pack, tars": packing(("webdataset",)),
        "pack, tars and Parquet": packing(("webdataset", "parquet")),
        "pack, tars, three subsets": packing(("webdataset",), subsets=three),
    }
    with TemporaryDirectory() as place:
        folder = Path(place)
        loaders = write_samples(folder, options.pairs, options.side)
        taken: dict[str, list[float]] = {}
        for _ in range(options.repeats):
            for name, way in ways.items():
                taken.setdefault(name, []).append(timed(way, loaders, folder / "out"))
        for workers in options.workers:
            with ray_workers(workers) as run_map:
                # The first run starts the worker processes.
                for repeat in range(options.repeats + 1):
                    seconds = timed(packing(("webdataset",), run_map), loaders, folder / "out")
                    if repeat:
                        taken.setdefault(f"pack, tars, Ray, {workers} workers", []).append(seconds)
        size = tar_bytes(loaders)
    report(options.pairs, size, taken, options.json)


def timed(way: Callable[[list[FileLoader], Path], None], loaders: list[FileLoader], out: Path) -> float:
    """Seconds that a way takes, into a fresh folder, which is removed."""
    os.sync()
    started = time.perf_counter()
    way(loaders, out)
    seconds = time.perf_counter() - started
    rmtree(out)
    return seconds


@contextmanager
def ray_workers(workers: int) -> Iterator[RunMap]:
    """A Ray session of this machine with so many cores, giving what spreads work over it."""
    from jobs.runners.ray_session import ray_map, ray_session

    with ray_session(RunnerConfig(kind="ray", workers=workers)):
        yield ray_map


def tar_bytes(loaders: list[FileLoader]) -> int:
    """Bytes of all members of all samples."""
    rows = (row for loader in loaders for row in loader().to_pylist())
    return sum(len(data) for row in rows for _, data in edit_members(row))


def report(pairs: int, size: int, taken: dict[str, list[float]], to: Path | None) -> None:
    """Print the table."""
    print(f"{pairs} pairs, {size / 1e6:.0f} MB ({size / pairs / 1e3:.0f} kB a sample), medians")
    plain = median(taken["webdataset.ShardWriter"])
    for name, runs in taken.items():
        seconds = median(runs)
        rates = f"{size / 1e6 / seconds:8.1f} MB/s {pairs / seconds:9.0f} samples/s"
        print(f"  {name:<28} {seconds:7.2f} s {rates} {seconds / plain:6.2f} x the time of ShardWriter")
    if to is not None:
        to.write_text(json.dumps({"pairs": pairs, "bytes": size, "seconds": taken}, indent=2) + "\n")


def _nullable() -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in EDIT_SAMPLE.fields])


if __name__ == "__main__":
    main()
