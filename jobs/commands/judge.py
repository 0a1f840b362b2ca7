"""`editmill judge`: let a vision-language model score before/after pairs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, RunnerKind, Workers, mapping, runner_values
from jobs.commands.pairs_in import ImageRoot, Pairs, pairs_pipeline


def judge(
    pairs: Pairs,
    output: RunFolderOption,
    endpoint: Annotated[
        str | None, typer.Option(help="OpenAI-compatible endpoint, as http://localhost:8000/v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --endpoint: the model's name there.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="With --endpoint: environment variable that holds the key.")
    ] = None,
    local_model: Annotated[
        str | None, typer.Option(help="Instead of an endpoint: a Qwen2.5-VL model folder or hub name, run here.")
    ] = None,
    least: Annotated[
        list[str],
        typer.Option(
            help="Least score kept, NAME=NUMBER; repeat it, those not named decide nothing. By default 4 of both."
        ),
    ] = [],  # noqa: B006
    prompt: Annotated[
        str | None, typer.Option(help="imgedit_scores.v1 (default), or a prompt file of your own.")
    ] = None,
    image_root: ImageRoot = None,
    runner: Runner = RunnerKind.in_process,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Score pairs by how well the target follows the instruction, and how natural it is, both from 1 to 5.

    Writes a run folder: the pairs that reach the least scores, with `judge_scores` and the judge's words, in records/;
    the others, and those whose reply holds no scores (judge_unparsed), with the reason in outcomes/.

    Example:

        editmill judge runs/masked --output runs/judged --endpoint http://localhost:8000/v1 --model qwen2.5-vl-72b
    """
    from jobs.launch import launch
    from schemas.errors import ConfigError

    if (endpoint is None) == (local_model is None):
        raise ConfigError(
            "--endpoint, --local-model", (endpoint, local_model), "exactly one must be given", "Choose where it runs."
        )
    backend: dict[str, Any] = {"kind": "transformers", "model": local_model}
    if endpoint is not None:
        if model is None:
            mend = "Give the name that the endpoint lists."
            raise ConfigError("--model", None, "must be given with --endpoint", mend)
        backend = {"kind": "openai", "url": endpoint, "model": model, "api_key_env": api_key_env}
    step = {"backend": backend, "prompt": prompt, "least": mapping("--least", least) or None}
    runner_section = runner_values(runner, workers, address)
    launch(pairs_pipeline("judge", pairs, image_root, output, [{"judge": step}], runner_section), "editmill judge")
