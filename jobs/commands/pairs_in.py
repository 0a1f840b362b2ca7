"""What the commands that read before/after pairs have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Pairs = Annotated[
    Path,
    typer.Argument(
        help="A run folder, a packed folder, a .jsonl or .parquet file, a folder of them, or a public data set as it "
        "was released.",
        show_default=False,
    ),
]
ImageRoot = Annotated[Path | None, typer.Option(help="JSONL: folder of the images; by default the file's own.")]
Radius = Annotated[
    int | None, typer.Option(min=0, max=16, help="Bits of 64 by which the hashes of near images differ at most (4).")
]


def pairs_pipeline(
    name: str, pairs: Path, image_root: Path | None, output: Path, steps: list[dict[str, Any]], runner: dict[str, Any]
) -> dict[str, Any]:
    """A pipeline config over `pairs`, as values for `launch`."""
    from jobs.launch import given
    from jobs.pair_source import pair_source

    source = pair_source(pairs, {}, image_root)
    values: dict[str, Any] = given({"name": name, "output": output, "source": source, "steps": steps, "runner": runner})
    return values
