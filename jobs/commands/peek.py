"""`editmill peek`: one sample of a shard, every field of it, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.pictures import MaxWeight, TerminalChoice, Weighting, print_pictures


def peek(
    shard: Annotated[
        Path,
        typer.Argument(
            help="A packed folder, a run folder, or a single .tar or .parquet file, also one that editmill did not "
            "write.",
            show_default=False,
        ),
    ],
    key: Annotated[
        str | None,
        typer.Argument(
            help="The sample's key, or how it begins; by default the first sample. In a Parquet file without keys the "
            "number of a row, from 0.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the picture to this .png file too.", show_default=False)
    ] = None,
    weighting: Weighting = "logarithmic",
    max_weight: MaxWeight = None,
    terminal: Annotated[
        TerminalChoice, typer.Option(help="Pictures in the terminal; none for text only.")
    ] = TerminalChoice.auto,
) -> None:
    """Show one sample: every field of its record, what its mask was decided by, and its pictures.

    Of a tar that editmill did not pack, the members of the sample are listed and its images are shown. Exit code 1
    where an image cannot be decoded.

    Examples:

        editmill peek shards/pairs

        editmill peek shards/pairs 3f9a --output sample.png

        editmill peek laion/00000.tar 000000012 --terminal none
    """
    from jobs.peek_job import peek_at
    from pipelines.preview.contact_sheet import contact_sheets
    from pipelines.preview.picture import encode_png
    from schemas.atomic import write_bytes
    from schemas.errors import InputError

    peeked = peek_at(shard, key, weighting, max_weight)
    if output is not None and peeked.card is None:
        raise InputError("--output", str(output), "the sample has no picture that can be drawn", "Leave it out.")
    for line in peeked.lines:
        typer.echo(line)
    print_pictures(peeked.strips, terminal)
    if output is not None and peeked.card is not None:
        [sheet] = contact_sheets([peeked.card], shard.resolve().name, peeked.card.key, peeked.scale)
        write_bytes(output, encode_png(sheet))
        typer.echo(f"picture  {output}")
    for sentence in peeked.undecodable:
        typer.secho(f"not shown: {sentence}", err=True, fg=typer.colors.RED)
    if peeked.undecodable:
        raise typer.Exit(1)
