"""`editmill leakage`: take pairs that show a benchmark's images out of a training set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, Workers, runner_values
from jobs.commands.pairs_in import ImageRoot, Pairs, Radius, pairs_pipeline


def leakage(
    pairs: Pairs,
    benchmark: Annotated[
        Path, typer.Option(help="The benchmark's pairs, in any form that PAIRS may have.", show_default=False)
    ],
    output: RunFolderOption,
    radius: Radius = None,
    image_root: ImageRoot = None,
    runner: Runner = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Reject training pairs of which any image is near any image of a benchmark.

    Writes two run folders: OUTPUT-benchmark with the hashes of the benchmark's images, and OUTPUT with the pairs that
    stay in records/ and the others in outcomes/ (benchmark_leakage), each with the benchmark's key.

    Example:

        editmill leakage runs/unique --benchmark data/imgedit-bench --output runs/clean
    """
    from jobs.launch import launch
    from jobs.run_manifest import read_run_manifest

    hashes = output.with_name(f"{output.name}-benchmark")
    runner_section = runner_values(runner, workers, address)
    hashing: list[dict[str, Any]] = [{"perceptual_hash": {}}]
    launch(pairs_pipeline("benchmark", benchmark, None, hashes, hashing, runner_section), "editmill leakage: benchmark")
    written = [entry.records for entry in read_run_manifest(hashes).partitions if entry.records is not None]
    step = {"benchmark": [str((hashes / file.name).absolute()) for file in written], "radius": radius}
    steps = [*hashing, {"leakage": step}]
    launch(pairs_pipeline("leakage", pairs, image_root, output, steps, runner_section), "editmill leakage")
