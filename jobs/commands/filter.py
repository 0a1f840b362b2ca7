"""`editmill filter`: keep the rows of LAION-style metadata that meet bounds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, Workers, runner_values


class ScoreScale(StrEnum):
    """Scale of the aesthetic score."""

    laion_1_10 = "laion_1_10"
    unit_0_1 = "unit_0_1"


class Outcomes(StrEnum):
    """What is written of rejected rows."""

    examples = "examples"
    rows = "rows"


class Missing(StrEnum):
    """What happens to a row without a value under a bound."""

    reject = "reject"
    keep = "keep"


def filter_metadata(
    paths: Annotated[
        list[str], typer.Argument(help="Parquet files, folders or globs, local or s3://, gs://...", show_default=False)
    ],
    output: RunFolderOption,
    min_aesthetic: Annotated[float | None, typer.Option(help="Lowest aesthetic score kept.")] = None,
    max_aesthetic: Annotated[float | None, typer.Option(help="Highest aesthetic score kept.")] = None,
    score_scale: Annotated[ScoreScale, typer.Option(help="Scale of the files' scores.")] = ScoreScale.laion_1_10,
    min_width: Annotated[int | None, typer.Option(help="Least width kept, in pixels.")] = None,
    min_height: Annotated[int | None, typer.Option(help="Least height kept, in pixels.")] = None,
    min_side: Annotated[int | None, typer.Option(help="Least shorter side kept, in pixels.")] = None,
    max_aspect: Annotated[float | None, typer.Option(help="Greatest longer : shorter side kept.")] = None,
    max_watermark: Annotated[float | None, typer.Option(help="Highest watermark probability kept, 0..1.")] = None,
    max_unsafe: Annotated[float | None, typer.Option(help="Highest unsafe probability kept, 0..1.")] = None,
    min_similarity: Annotated[float | None, typer.Option(help="Lowest image-text similarity kept, -1..1.")] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Language kept, spelt as in the files; give it again for more.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Condition like SQL's: 'aesthetic >= 6 and width * height > 500000'.")
    ] = None,
    missing: Annotated[Missing, typer.Option(help="A row without a value under a bound.")] = Missing.reject,
    outcomes: Annotated[
        Outcomes, typer.Option(help="Rejected rows: counts by reason and a few examples, or a row for each.")
    ] = Outcomes.examples,
    images: Annotated[
        Path | None, typer.Option(help="Also read the images: the folder that local urls are relative to.")
    ] = None,
    runner: Runner = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Keep the metadata rows that meet every bound given; bounds are inclusive.

    Reads LAION-style Parquet (columns under any of their usual names). Writes a run folder: the kept rows as
    ImageRecords in records/; every other row is counted under its reason, with examples in outcomes/ (--outcomes rows
    writes each). Row groups whose statistics show that no row can pass are not read.

    Example:

        editmill filter 'laion/*.parquet' --output runs/kept --min-aesthetic 6 --min-side 512 --max-aspect 2

        editmill filter s3://bucket/laion --output runs/kept --language en --where "width * height > 500000"
    """
    from jobs.launch import given, launch

    bounds = {
        "paths": paths,
        "score_scale": score_scale.value,
        "min_aesthetic": min_aesthetic,
        "max_aesthetic": max_aesthetic,
        "min_width": min_width,
        "min_height": min_height,
        "min_side": min_side,
        "max_aspect": max_aspect,
        "max_watermark": max_watermark,
        "max_unsafe": max_unsafe,
        "min_similarity": min_similarity,
        "languages": language or None,
        "where": where,
        "missing": missing.value,
        "outcomes": outcomes.value,
    }
    config = {
        "name": "filter",
        "output": output,
        "source": {"laion_parquet": bounds},
        "steps": [] if images is None else [{"local_images": {"root": str(images)}}],
        "runner": runner_values(runner, workers, address),
    }
    launch(given(config), "editmill filter")
