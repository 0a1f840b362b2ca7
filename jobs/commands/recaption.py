"""`editmill recaption`: let a vision-language model describe images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.options import Address, RunFolderOption, Runner, RunnerKind, Workers, runner_values


def recaption(
    images: Annotated[
        Path,
        typer.Argument(help="A run folder, or Parquet with ImageRecords (file or folder).", show_default=False),
    ],
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
    prompt: Annotated[
        str | None, typer.Option(help="caption_long.v1 (default), caption_short.v1, or a prompt file of your own.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column of the images; for edit pairs target.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="A reply that reaches this many tokens is rejected (512).")
    ] = None,
    images_root: Annotated[
        Path | None,
        typer.Option("--images", help="Read the images first: the folder that local urls are relative to."),
    ] = None,
    runner: Runner = RunnerKind.in_process,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Add to each image a caption written by a vision-language model.

    Reads the rows of a finished run, or ImageRecords in Parquet. Writes a run folder: the rows with their captions in
    records/; empty, truncated or failed replies are rejected, with the reason, in outcomes/.

    Example:

        editmill recaption runs/kept --output runs/captioned --endpoint http://localhost:8000/v1 --model qwen2.5-vl-7b
    """
    from jobs.launch import given, is_run_folder, launch

    source: dict[str, dict[str, Any]] = {"image_records_parquet": {"paths": [str(images)]}}
    if is_run_folder(images):
        source = {"run_records": {"path": str(images)}}
    step = {
        "backend": _backend(endpoint, model, api_key_env, local_model),
        "prompt": prompt,
        "column": column,
        "max_new_tokens": max_new_tokens,
    }
    read = [] if images_root is None else [{"local_images": {"root": str(images_root)}}]
    config = {
        "name": "recaption",
        "output": output,
        "source": source,
        "steps": [*read, {"recaption": step}],
        "runner": runner_values(runner, workers, address),
    }
    launch(given(config), "editmill recaption")


def _backend(
    endpoint: str | None, model: str | None, api_key_env: str | None, local_model: str | None
) -> dict[str, Any]:
    from schemas.errors import ConfigError

    if (endpoint is None) == (local_model is None):
        raise ConfigError(
            "--endpoint, --local-model", (endpoint, local_model), "exactly one must be given", "Choose where it runs."
        )
    if local_model is not None:
        if model is not None or api_key_env is not None:
            raise ConfigError("--model, --api-key-env", model, "belong to --endpoint", "Leave them out.")
        return {"kind": "transformers", "model": local_model}
    if model is None:
        raise ConfigError("--model", None, "must be given with --endpoint", "Give the name that the endpoint lists.")
    return {"kind": "openai", "url": endpoint, "model": model, "api_key_env": api_key_env}
