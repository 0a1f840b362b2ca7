"""Which model is asked, where it runs, and how it generates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from schemas.config import Config


class PriceConfig(Config):
    """What an endpoint's tokens cost, and when to stop."""

    prompt: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens, in any currency."""
    completion: float = Field(default=0.0, ge=0)
    """Price of a million completion tokens."""
    limit: float | None = Field(default=None, gt=0)
    """Most that may be spent, over all workers and restarts; then the job stops. Requests that are then under way are
    still paid for. Attempts that the endpoint charges though they failed are not known here."""
    account: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What is spent under one name in one cache counts together. Default: a name made of model, prompt and settings."""


class OpenAIEndpointConfig(Config):
    """A model behind an OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a hosted service)."""

    kind: Literal["openai"] = "openai"
    """Chooses this backend."""
    url: str
    """Address of the API up to and including its version: http://localhost:8000/v1."""
    model: str = Field(min_length=1)
    """The model's name as the endpoint lists it."""
    stored_name: str | None = Field(default=None, min_length=1)
    """Name stored as the model with what it wrote; by default `model`."""
    revision: str = ""
    """Which state of the model the endpoint serves (a commit, a date). Replies that were kept are only used for the
    same one; an endpoint does not tell, so change it when the model behind the name changes."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. The key itself never stands in a config."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds within which one request must be answered in full, from connecting to the reply's last byte."""
    max_attempts: int = Field(default=4, ge=1)
    """How often one request is tried where the fault may pass: 429, 5xx, a lost connection, a timeout."""
    backoff_s: float = Field(default=1.0, ge=0)
    """Longest wait before the second attempt; it doubles with each further one. Drawn from its upper half."""
    deadline_s: float = Field(default=600.0, gt=0)
    """Seconds within which one request ends, attempts and the waits between them together."""
    max_reply_bytes: int = Field(default=4 * 2**20, ge=1024)
    """A reply of more bytes is not read to its end."""
    concurrency: int = Field(default=8, ge=1)
    """Requests in flight at a time, for each worker."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Bound over all workers that share a cache folder; without one, for each worker."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """The same for prompt and completion tokens together, on average."""
    price: PriceConfig = Field(default_factory=PriceConfig)
    """What tokens cost, and when to stop."""
    impose_schema: bool = True
    """Whether a JSON schema, where the prompt has one, goes out as `response_format`, so that the server can hold the
    model to it. Replies are validated either way; turn it off for servers that refuse the field."""
    check_model: bool = True
    """Whether the endpoint must list the model at GET /models before any row is read. Some servers list nothing."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https address such as http://localhost:8000/v1")
        return value.rstrip("/")

    def model_name(self) -> str:
        """The name stored with what it wrote."""
        return self.stored_name or self.model

    def api_key(self) -> str | None:
        """The key from the environment, or None where none is configured or the variable is empty."""
        return os.environ.get(self.api_key_env) or None if self.api_key_env else None


class TransformersConfig(Config):
    """A Qwen2.5-VL model run by transformers in this very process."""

    kind: Literal["transformers"] = "transformers"
    """Chooses this backend."""
    model: str = Field(min_length=1)
    """A model folder, or a name on the Hugging Face hub."""
    stored_name: str | None = Field(default=None, min_length=1)
    """Name stored as the model with what it wrote; by default the hub's name, or the last two parts of the folder's."""
    revision: str = ""
    """A commit on the hub. For a folder leave it empty: its files are looked at."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights; "auto" takes that of the saved model."""
    device: str = "auto"
    """A torch device; "auto" is cuda where there is one, else cpu."""
    batch_size: int = Field(default=8, ge=1)
    """Requests in one call of the model."""

    def model_name(self) -> str:
        """The name stored with what it wrote. Not a whole path: rows leave this machine, and must not differ by it."""
        return _model_name(self.stored_name, self.model)


class VLLMConfig(Config):
    """A model run by vLLM inside the job, through `ray.data.llm`: all questions of the input at once, before the rows
    go on. Only `editmill run` and its like can do that, with the runner `ray`."""

    kind: Literal["vllm"] = "vllm"
    """Chooses this backend."""
    model: str = Field(min_length=1)
    """A model folder that all nodes see, or a name on the Hugging Face hub."""
    stored_name: str | None = Field(default=None, min_length=1)
    """Name stored as the model with what it wrote; by default the hub's name, or the last two parts of the folder's."""
    revision: str = ""
    """A commit on the hub. For a folder leave it empty: its files are looked at."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of vLLM's engine: {tensor_parallel_size: 2, max_model_len: 8192}."""
    replicas: int = Field(default=1, ge=1)
    """Engines, each on the GPUs that its parallel sizes need."""
    accelerator: str | None = None
    """The GPU that an engine must have, as Ray calls it (H100)."""
    batch_size: int = Field(default=64, ge=1)
    """Requests handed to an engine at a time."""
    impose_schema: bool = True
    """Whether the model is held to the prompt's JSON schema, where it has one."""

    def model_name(self) -> str:
        """As `TransformersConfig.model_name`."""
        return _model_name(self.stored_name, self.model)


class GenerationConfig(Config):
    """What every step that asks a model lets be chosen."""

    backend: Annotated[OpenAIEndpointConfig | TransformersConfig | VLLMConfig, Field(discriminator="kind")]
    """Where the model runs."""
    cache: str | None = None
    """Folder where replies are kept, so that nothing is asked twice; it may be shared by jobs and machines. In a
    pipeline the default is `replies` in the run folder; a step by itself keeps none."""
    max_new_tokens: int = Field(default=512, ge=1)
    """A reply that reaches this many tokens is truncated, and its row rejected."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token each time; above 0, replies differ from run to run."""
    max_side: int = Field(default=1536, ge=28)
    """Longest side in pixels that the model is shown; larger images are shrunk for it. What is stored never changes."""

    @model_validator(mode="after")
    def _limit_is_remembered(self) -> GenerationConfig:
        if self.cache is None and isinstance(self.backend, OpenAIEndpointConfig) and self.backend.price.limit:
            raise ValueError("a limit of money (backend.price.limit) needs a cache, which remembers what was spent")
        return self

    def decisive(self) -> dict[str, Any]:
        """The config as JSON-able values without what decides no reply: where the model runs, and how fast."""
        values = self.as_json()
        del values["cache"]
        values["backend"] = {name: value for name, value in values["backend"].items() if name in _DECISIVE}
        return values


_DECISIVE = ("kind", "model", "stored_name", "revision", "dtype", "batch_size", "impose_schema", "engine")


def _model_name(stored_name: str | None, model: str) -> str:
    path = Path(model)
    return stored_name or ("/".join(path.absolute().parts[-2:]) if path.is_dir() else model)
