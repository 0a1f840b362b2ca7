"""`editmill validate`: is a packed folder whole and unaltered?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def validate(
    shards: Annotated[Path, typer.Argument(help="A folder that `editmill pack` made.", show_default=False)],
    quick: Annotated[bool, typer.Option("--quick", help="Hash and count files only; do not read samples.")] = False,
) -> None:
    """Check a packed folder: hashes, sizes, counts, the index, and every sample.

    Reads manifest.json and every file that it lists; writes nothing. Prints one line for each fault (kind, file, what
    is wrong), then a summary. Exit code 0 where there is no fault, 1 where there is one, 2 where the folder is none
    that `editmill pack` made.

    Example:

        editmill validate runs/demo/shards/edits
    """
    from pipelines.shards.validate import validate as find_faults
    from schemas.manifest import read_manifest

    faults = find_faults(shards, deep=not quick)
    for fault in faults:
        typer.echo(f"{fault.kind}\t{fault.file}\t{fault.sentence}")
    if faults:
        files = len({fault.file for fault in faults})
        typer.secho(f"{shards}: {len(faults)} faults in {files} files", fg=typer.colors.RED, err=True)
        raise typer.Exit(1)
    manifest = read_manifest(shards)
    size = sum(entry.bytes for entry in manifest.shards) / 2**20
    looked = "hashed" if quick else "hashed and read"
    typer.secho(
        f"{shards}: no fault; {manifest.kept} samples in {len(manifest.shards)} shards, {size:.1f} MiB {looked}",
        fg=typer.colors.GREEN,
    )
