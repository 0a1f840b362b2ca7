"""`editmill recaption`: let a vision-language model describe images, or write the instructions of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, RunnerKind, Workers, runner_values

_MODEL, _MONEY = "Model", "Pace and money"


def recaption(
    images: Annotated[
        Path,
        typer.Argument(
            help="A run folder, or Parquet with ImageRecords (file or folder); with --write-instructions pairs.",
            show_default=False,
        ),
    ],
    output: RunFolderOption,
    endpoint: Annotated[
        str | None,
        typer.Option(help="OpenAI-compatible endpoint, as http://localhost:8000/v1.", rich_help_panel=_MODEL),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --endpoint: the model's name there.", rich_help_panel=_MODEL)
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(help="With --endpoint: environment variable that holds the key.", rich_help_panel=_MODEL),
    ] = None,
    local_model: Annotated[
        str | None,
        typer.Option(
            help="Instead of an endpoint: a Qwen2.5-VL model folder or hub name, run here.", rich_help_panel=_MODEL
        ),
    ] = None,
    vllm_model: Annotated[
        str | None,
        typer.Option(
            help="Instead of an endpoint: a model run by vLLM in the job (--runner ray).", rich_help_panel=_MODEL
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="State of the model; kept replies are only used for the same one.", rich_help_panel=_MODEL),
    ] = None,
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
    cache: Annotated[
        Path | None, typer.Option(help="Folder of kept replies, to share by runs; default: in the run folder.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests in flight for each worker (8).", rich_help_panel=_MONEY)
    ] = None,
    requests_per_minute: Annotated[
        float | None, typer.Option(help="Bound over all workers.", rich_help_panel=_MONEY)
    ] = None,
    tokens_per_minute: Annotated[
        float | None, typer.Option(help="Bound over all workers, on average.", rich_help_panel=_MONEY)
    ] = None,
    prompt_price: Annotated[
        float | None, typer.Option(help="Price of a million prompt tokens.", rich_help_panel=_MONEY)
    ] = None,
    completion_price: Annotated[
        float | None, typer.Option(help="Price of a million completion tokens.", rich_help_panel=_MONEY)
    ] = None,
    money_limit: Annotated[
        float | None,
        typer.Option(help="Stop when so much is spent; what is done stays.", rich_help_panel=_MONEY),
    ] = None,
    runner: Runner = RunnerKind.in_process,
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

    prices = {"prompt": prompt_price, "completion": completion_price, "limit": money_limit}
    for_endpoint = {
        "model": model,
        "api_key_env": api_key_env,
        "concurrency": concurrency,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "price": prices if given(prices) else None,
    }
    step = {
        "backend": {**_backend(endpoint, local_model, vllm_model, for_endpoint), "revision": revision},
        "prompt": prompt,
        "max_new_tokens": max_new_tokens,
        "max_repairs": max_repairs,
        "cache": None if cache is None else str(cache.absolute()),
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


def _backend(
    endpoint: str | None, local_model: str | None, vllm_model: str | None, for_endpoint: dict[str, Any]
) -> dict[str, Any]:
    from schemas.errors import ConfigError

    places = {"--endpoint": endpoint, "--local-model": local_model, "--vllm-model": vllm_model}
    if sum(place is not None for place in places.values()) != 1:
        raise ConfigError(
            ", ".join(places), list(places.values()), "exactly one must be given", "Choose where it runs."
        )
    if endpoint is None:
        for name, value in for_endpoint.items():
            if value is not None:
                option = "--prompt-price, --completion-price, --money-limit" if name == "price" else f"--{name}"
                raise ConfigError(option.replace("_", "-"), value, "belong to --endpoint", "Leave them out.")
        kind, folder = ("vllm", vllm_model) if local_model is None else ("transformers", local_model)
        return {"kind": kind, "model": folder}
    if for_endpoint["model"] is None:
        raise ConfigError("--model", None, "must be given with --endpoint", "Give the name that the endpoint lists.")
    return {"kind": "openai", "url": endpoint, **for_endpoint}
