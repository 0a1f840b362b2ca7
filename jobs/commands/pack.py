"""`editmill pack`: pack the rows of a run into shards."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import Address, Runner, Workers, runner_values


class Record(StrEnum):
    """What is packed."""

    edits = "edits"
    images = "images"


class Format(StrEnum):
    """Which shards are written."""

    webdataset = "webdataset"
    parquet = "parquet"


def pack(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folder of masks, recaption, fetch or run; or several.", show_default=False),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the shards.", show_default=False)],
    record: Annotated[
        Record | None, typer.Option(help="What is packed; by default edits where the rows have masks.")
    ] = None,
    shard_format: Annotated[
        list[Format], typer.Option("--format", help="Shards to write; repeat it. By default both.")
    ] = [],  # noqa: B006
    samples_per_shard: Annotated[int | None, typer.Option(help="Most samples in a shard (1000).")] = None,
    bytes_per_shard: Annotated[int | None, typer.Option(help="Most bytes in a shard (512 MiB).")] = None,
    subset: Annotated[
        list[str], typer.Option(help="Name and share of a subset with shards of its own: train=0.98; repeat it.")
    ] = [],  # noqa: B006
    title: Annotated[str | None, typer.Option(help="Heading of the dataset card.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace other shards that are in the output folder.")
    ] = False,
    run_folder: Annotated[
        Path | None, typer.Option(help="Where to keep the packing's own outcomes; by default runs/pack-OUTPUT.")
    ] = None,
    runner: Runner = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Pack the rows of finished runs into WebDataset and Parquet shards, with an index, a manifest and a dataset card.

    Reads run folders, through their manifests. Writes the shards' folder; rows that cannot be packed are in outcomes/
    of the run folder of the packing. The same rows and options give the same bytes, whatever the runner. Samples that
    share an image are in the same subset; rules for subsets, and row groups, are set in a pipeline config.

    Example:

        editmill pack runs/masked --output shards/ --subset train=0.98 --subset test=0.02
    """
    from jobs.launch import given, launch
    from jobs.run_manifest import read_run_manifest

    columns = read_run_manifest(runs[0]).columns
    kind = record.value if record is not None else ("edits" if "mask" in columns else "images")
    config = {
        "name": "pack",
        "output": run_folder or Path("runs") / f"pack-{output.resolve().name}",
        "source": {"run_records": {"path": str(runs[0]), "also": [str(run) for run in runs[1:]]}},
        "pack": {
            "output": output,
            "overwrite": overwrite,
            "record": kind,
            "formats": [one.value for one in shard_format] or None,
            "samples_per_shard": samples_per_shard,
            "bytes_per_shard": bytes_per_shard,
            "subsets": _shares(subset),
            "title": title,
        },
        "runner": runner_values(runner, workers, address),
    }
    launch(given(config), "editmill pack")


def _shares(subsets: list[str]) -> dict[str, str]:
    """`NAME=SHARE` each; the config reads the share."""
    from schemas.errors import ConfigError

    shares: dict[str, str] = {}
    for text in subsets:
        name, _, share = text.partition("=")
        if name in shares:
            raise ConfigError("--subset", text, f"'{name}' is given twice", "Give each subset once.")
        shares[name] = share
    return shares
