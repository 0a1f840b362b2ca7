"""Options of the commands that ask a vision-language model: which one, how fast, and for how much money."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_MODEL, _MONEY = "Model", "Pace and money"

Endpoint = Annotated[
    str | None, typer.Option(help="OpenAI-compatible endpoint, as http://localhost:8000/v1.", rich_help_panel=_MODEL)
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="With --endpoint: the model's name there.", rich_help_panel=_MODEL)
]
ApiKeyEnv = Annotated[
    str | None, typer.Option(help="With --endpoint: environment variable that holds the key.", rich_help_panel=_MODEL)
]
LocalModel = Annotated[
    str | None,
    typer.Option(
        help="Instead of an endpoint: a Qwen2.5-VL model folder or hub name, run here.", rich_help_panel=_MODEL
    ),
]
VLLMModel = Annotated[
    str | None,
    typer.Option(
        "--vllm-model",
        help="Instead of an endpoint: a model run by vLLM in the job (--runner ray).",
        rich_help_panel=_MODEL,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="State of the model; kept replies are only used for the same one.", rich_help_panel=_MODEL),
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of kept replies, to share by runs; default: in the run folder.", rich_help_panel=_MODEL),
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, help="Requests in flight for each worker (8).", rich_help_panel=_MONEY)
]
RequestsPerMinute = Annotated[float | None, typer.Option(help="Bound over all workers.", rich_help_panel=_MONEY)]
TokensPerMinute = Annotated[
    float | None, typer.Option(help="Bound over all workers, on average.", rich_help_panel=_MONEY)
]
PromptPrice = Annotated[float | None, typer.Option(help="Price of a million prompt tokens.", rich_help_panel=_MONEY)]
CompletionPrice = Annotated[
    float | None, typer.Option(help="Price of a million completion tokens.", rich_help_panel=_MONEY)
]
MoneyLimit = Annotated[
    float | None, typer.Option(help="Stop when so much is spent; what is done stays.", rich_help_panel=_MONEY)
]


def model_values(
    endpoint: str | None,
    local_model: str | None,
    vllm_model: str | None,
    revision: str | None,
    cache: Path | None,
    prices: dict[str, float | None],
    **for_endpoint: Any,
) -> dict[str, Any]:
    """The keys `backend` and `cache` of a step that asks a model; None where an option was not given.

    Args:
        prices: keys of `PriceConfig`.
        for_endpoint: other keys of `OpenAIEndpointConfig`.

    Raises:
        ConfigError: not exactly one place where the model runs, or an option that does not belong to it.
    """
    from schemas.errors import ConfigError

    kept = {"cache": None if cache is None else str(cache.absolute())}
    places = {"--endpoint": endpoint, "--local-model": local_model, "--vllm-model": vllm_model}
    if sum(place is not None for place in places.values()) != 1:
        given = list(places.values())
        raise ConfigError(", ".join(places), given, "exactly one must be given", "Choose where the model runs.")
    asked = {name: value for name, value in for_endpoint.items() if value is not None}
    priced = {name: value for name, value in prices.items() if value is not None}
    if endpoint is not None:
        if "model" not in asked:
            mend = "Give the name that the endpoint lists."
            raise ConfigError("--model", None, "must be given with --endpoint", mend)
        backend = {"kind": "openai", "url": endpoint, "revision": revision, "price": priced or None, **asked}
        return {"backend": backend, **kept}
    if priced:
        options = "--prompt-price, --completion-price, --money-limit"
        raise ConfigError(options, priced, "belong to --endpoint", "Leave them out.")
    for name, value in asked.items():
        raise ConfigError(f"--{name.replace('_', '-')}", value, "belongs to --endpoint", "Leave it out.")
    kind, model = ("transformers", local_model) if vllm_model is None else ("vllm", vllm_model)
    return {"backend": {"kind": kind, "model": model, "revision": revision}, **kept}
