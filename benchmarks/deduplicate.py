"""The decision of the step `deduplicate` on synthetic hashes: time, peak memory, and how it stands to comparing all
with all.

    python benchmarks/deduplicate.py
    python benchmarks/deduplicate.py --rows 1000000 --radius 4 8 --match edit pair

Every pair has a reference and a target; a share of the pairs are copies of others with a few bits flipped, another
share exact copies. The peer is numpy holding every row that stays against all later ones, on a subset, where both must
come to the same rows; its time for all rows is taken as quadratic in their number.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa

from pipelines.deduplicate.hamming import I64, U64, distances
from pipelines.deduplicate.hash_step import CONTENT_BYTES, IMAGE_HASHES
from pipelines.deduplicate.step import Deduplicate, DeduplicateConfig

COPIES, EXACT = 0.15, 0.05
"""Shares of the rows that are near and exact copies of others."""
FLIPPED = 3
"""Bits flipped at most in each hash of a near copy."""


def synthetic(rows: int, seed: int = 0) -> tuple[U64, U64]:
    """(rows, 2) uint64 perceptual hashes, and (rows, 2, 2) uint64 content hashes."""
    draw = np.random.default_rng(seed)
    hashes = draw.integers(0, 2**64, (rows, 2), dtype=np.uint64)
    contents = draw.integers(0, 2**64, (rows, 2, 2), dtype=np.uint64)
    near, exact = int(COPIES * rows), int(EXACT * rows)
    places, others = np.split(draw.permutation(rows), [near + exact])
    origins = draw.choice(others, near + exact)
    copies = hashes[origins]
    for _ in range(FLIPPED):
        flip = np.uint64(1) << draw.integers(0, 64, (near, 2)).astype(np.uint64)
        copies[:near] ^= np.where(draw.random((near, 2)) < 0.5, flip, np.uint64(0))
    hashes[places] = copies
    contents[places[near:]] = contents[origins[near:]]
    return hashes, contents


def surveys_of(hashes: U64, contents: U64) -> pa.Table:
    """The surveys as `Deduplicate.decide` gets them; every instruction is the same, so that none parts the rows."""
    rows = len(hashes)
    entry = IMAGE_HASHES.type.value_type
    content = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(CONTENT_BYTES), 2 * rows, [None, pa.py_buffer(contents.tobytes())]
    )
    columns = pa.DictionaryArray.from_arrays(np.tile(np.array([0, 1], np.int8), rows), ["references", "target"])
    entries = pa.StructArray.from_arrays(
        [columns.cast(pa.string()), content, pa.array(hashes.ravel())], fields=list(entry)
    )
    offsets = pa.array(np.arange(0, 2 * rows + 1, 2, dtype=np.int32))
    return pa.table(
        {
            "key": [f"{number * 0x9E3779B97F4A7C15 % 2**64:032x}" for number in range(rows)],
            IMAGE_HASHES.name: pa.ListArray.from_arrays(offsets, entries, type=IMAGE_HASHES.type),
            "instruction_mark": pa.array([b"the same"] * rows, pa.binary(8)),
        }
    )


def all_with_all(hashes: U64, radius: int) -> I64:
    """Row after row, for each the rows that stay and come later and are near: the plain way, a row at a time."""
    kept_by = np.full(len(hashes), -1)
    references, targets = (np.ascontiguousarray(column) for column in hashes.T)
    for row in range(len(hashes)):
        if kept_by[row] < 0:
            near = np.flatnonzero(distances(targets[row + 1 :], targets[row]) <= radius) + row + 1
            near = near[distances(references[near], references[row]) <= radius]
            kept_by[near[kept_by[near] < 0]] = row
    return kept_by


def measured(rows: int, radius: int, match: str) -> None:
    """Print one line of the table."""
    hashes, contents = synthetic(rows)
    surveys = surveys_of(hashes, contents)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    step = Deduplicate(DeduplicateConfig.model_validate({"match": match, "radius": radius}))
    start = time.monotonic()
    decision = step.decide(surveys)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{rows:>10,} {match:>10} {radius:>6} {decision.num_rows:>10,} {seconds:>8.1f} {peak:>8.0f} {before:>12.0f}")


def against_all_with_all(rows: int, radius: int, whole: int) -> None:
    """Print how the two ways compare on a subset."""
    hashes, contents = synthetic(rows)
    surveys = surveys_of(hashes, contents)
    order = np.argsort(np.array(surveys["key"].to_pylist()))
    start = time.monotonic()
    kept_by = all_with_all(np.ascontiguousarray(hashes[order]), radius)
    plain = time.monotonic() - start
    start = time.monotonic()
    decision = Deduplicate(DeduplicateConfig(radius=radius)).decide(surveys)
    ours = time.monotonic() - start
    keys = surveys["key"].take(pa.array(order)).to_pylist()
    same = {keys[row] for row in np.flatnonzero(kept_by >= 0)} == set(decision["key"].to_pylist())
    print(f"\n{rows:,} rows, radius {radius}: all with all {plain:.2f} s, the step {ours:.2f} s; the same rows: {same}")
    print(f"all with all for {whole:,} rows, quadratic from that: {plain * (whole / rows) ** 2:,.0f} s")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--radius", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--match", nargs="+", default=["pair", "target", "any_image"])
    parser.add_argument("--subset", type=int, default=50_000)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        measured(chosen.rows[0], chosen.radius[0], chosen.match[0])
        return
    print(f"{'rows':>10} {'match':>10} {'radius':>6} {'dropped':>10} {'s':>8} {'peak MiB':>8} {'of it before':>12}")
    for rows in chosen.rows:
        for match in chosen.match:
            for radius in chosen.radius:
                # A process each, so that the peak is its own.
                case = ["--one", "--rows", str(rows), "--radius", str(radius), "--match", match]
                subprocess.run([sys.executable, __file__, *case], check=True)
    against_all_with_all(chosen.subset, chosen.radius[0], max(chosen.rows))


if __name__ == "__main__":
    main()
