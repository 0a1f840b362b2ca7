"""`editmill deduplicate`: of before/after pairs that are copies or near copies, keep one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, Workers, runner_values
from jobs.commands.pairs_in import ImageRoot, Pairs, Radius, pairs_pipeline


class Match(StrEnum):
    """When a pair is another's duplicate."""

    edit = "edit"
    pair = "pair"
    target = "target"
    any_image = "any_image"


def deduplicate(
    pairs: Pairs,
    output: RunFolderOption,
    match: Annotated[
        Match | None,
        typer.Option(help="Near must be: every image, for one instruction (edit); every image; the target; any image."),
    ] = None,
    radius: Radius = None,
    prefer_score: Annotated[
        str | None, typer.Option(help="Keep the one with the highest judge score of this name; else the smallest key.")
    ] = None,
    image_root: ImageRoot = None,
    runner: Runner = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Drop pairs whose images are copies or near copies of another pair's, over the whole input.

    Writes a run folder: the pairs that stay in records/, the others in outcomes/ (exact_duplicate, near_duplicate),
    each with the key that stays in its place and the distance.

    Example:

        editmill deduplicate runs/judged --output runs/unique --prefer-score naturalness
    """
    from jobs.launch import launch

    step = {"match": None if match is None else match.value, "radius": radius, "prefer_score": prefer_score}
    steps: list[dict[str, Any]] = [{"perceptual_hash": {}}, {"deduplicate": step}]
    runner_section = runner_values(runner, workers, address)
    launch(pairs_pipeline("deduplicate", pairs, image_root, output, steps, runner_section), "editmill deduplicate")
