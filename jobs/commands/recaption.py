"""`editmill recaption`: let a vision-language model describe images, or write the instructions of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
from jobs.commands.options import Address, RunFolderOption, Runner, Workers, runner_values


def recaption(
    images: Annotated[
        Path,
        typer.Argument(
            help="A run folder, or Parquet with ImageRecords (file or folder); with --write-instructions pairs.",
            show_default=False,
        ),
    ],
    output: RunFolderOption,
    endpoint: Endpoint = None,
    model: ModelName = None,
    api_key_env: ApiKeyEnv = None,
    local_model: LocalModel = None,
    vllm_model: VLLMModel = None,
    revision: Revision = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="captions.v1 (short and long, default), caption_long.v1, caption_short.v1, or a file."),
    ] = None,
    write_instructions: Annotated[
        bool,
        typer.Option("--write-instructions", help="Write edit type and instruction of pairs that lack one instead."),
    ] = False,
    column: Annotated[str | None, typer.Option(help="Column of the images; for edit pairs target.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="A reply that reaches this many tokens is rejected (512).")
    ] = None,
    max_repairs: Annotated[
        int | None, typer.Option(min=0, help="How often a faulty reply is asked for again, with the fault named (1).")
    ] = None,
    images_root: Annotated[
        Path | None,
        typer.Option("--images", help="Read the images first: the folder that local urls are relative to."),
    ] = None,
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
    """Add to each image captions written by a vision-language model, or to each pair the instruction it lacks.

    Reads the rows of a finished run, or ImageRecords in Parquet; with `--write-instructions` pairs as `editmill masks`
    does, with or without instructions. Writes a run folder: the rows with their texts in records/, each with the model
    and the prompt that wrote it; empty, truncated or failed replies are rejected, with the reason, in outcomes/.

    Every reply is kept as it comes: a run that was killed, or stopped at `--money-limit`, asks only what is missing
    when it is started again.

    Examples:

        editmill recaption runs/kept --output runs/captioned --endpoint http://localhost:8000/v1 --model qwen2.5-vl-7b

        editmill recaption pairs/ --write-instructions --output runs/instructed --local-model models/Qwen2.5-VL-7B
    """
    from jobs.launch import given, launch

    step = {
        **model_values(
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
        ),
        "prompt": prompt,
        "max_new_tokens": max_new_tokens,
        "max_repairs": max_repairs,
    }
    source, steps = _image_steps(images, images_root, {**step, "column": column})
    if write_instructions:
        source, steps = _pair_steps(images, {"--images": images_root, "--column": column}, step)
    config = {
        "name": "recaption",
        "output": output,
        "source": source,
        "steps": steps,
        "runner": runner_values(runner, workers, address),
    }
    launch(given(config), "editmill recaption")


def _image_steps(
    images: Path, images_root: Path | None, step: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from jobs.launch import is_run_folder

    source: dict[str, Any] = {"image_records_parquet": {"paths": [str(images)]}}
    if is_run_folder(images):
        source = {"run_records": {"path": str(images)}}
    read = [] if images_root is None else [{"local_images": {"root": str(images_root)}}]
    return source, [*read, {"recaption": step}]


def _pair_steps(
    pairs: Path, foreign: dict[str, Any], step: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from jobs.pair_source import pair_source
    from jobs.registry import source_config_class
    from schemas.errors import ConfigError

    for option, value in foreign.items():
        if value is not None:
            raise ConfigError(option, str(value), "does not belong to --write-instructions", "Leave it out.")
    [(kind, values)] = pair_source(pairs, {}, None).items()
    if "needs_instruction" in source_config_class(kind, "editmill recaption").model_fields:
        values = {**values, "needs_instruction": False}
    return {kind: values}, [{"write_instructions": step}]
