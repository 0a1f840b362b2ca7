"""`editmill judge`: let a vision-language model score before/after pairs."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.commands.model_options import (
    ApiKeyEnv,
    Cache,
    CompletionPrice,
    Concurrency,
    Endpoint,
    LocalModel,
    ModelName,
    MoneyLimit,
    PromptPrice,
    RequestsPerMinute,
    Revision,
    TokensPerMinute,
    VLLMModel,
    model_values,
)
from jobs.commands.options import Address, RunFolderOption, Runner, Workers, mapping, runner_values
from jobs.commands.pairs_in import ImageRoot, Pairs, pairs_pipeline


def judge(
    pairs: Pairs,
    output: RunFolderOption,
    endpoint: Endpoint = None,
    model: ModelName = None,
    api_key_env: ApiKeyEnv = None,
    local_model: LocalModel = None,
    vllm_model: VLLMModel = None,
    revision: Revision = None,
    least: Annotated[
        list[str],
        typer.Option(
            help="Least score kept, NAME=NUMBER; repeat it, those not named decide nothing. By default 4 of both."
        ),
    ] = [],  # noqa: B006
    prompt: Annotated[
        str | None, typer.Option(help="imgedit_scores.v1 (default), or a prompt file of your own.")
    ] = None,
    max_repairs: Annotated[
        int | None, typer.Option(min=0, help="How often a reply without scores is asked for again (1).")
    ] = None,
    image_root: ImageRoot = None,
    cache: Cache = None,
    concurrency: Concurrency = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    prompt_price: PromptPrice = None,
    completion_price: CompletionPrice = None,
    money_limit: MoneyLimit = None,
    runner: Runner = None,
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

    asked = model_values(
        endpoint,
        local_model,
        vllm_model,
        revision,
        cache,
        {"prompt": prompt_price, "completion": completion_price, "limit": money_limit},
        model=model,
        api_key_env=api_key_env,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    step = {**asked, "prompt": prompt, "max_repairs": max_repairs, "least": mapping("--least", least) or None}
    runner_section = runner_values(runner, workers, address)
    launch(pairs_pipeline("judge", pairs, image_root, output, [{"judge": step}], runner_section), "editmill judge")
