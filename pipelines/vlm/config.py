"""Which model is asked, where it runs, and how it generates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from schemas.config import Config


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
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. The key itself never stands in a config."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds within which one request must be answered in full, from connecting to the reply's last byte."""
    max_attempts: int = Field(default=4, ge=1)
    """How often one request is tried where the fault may pass: 429, 5xx, a lost connection, a timeout."""
    backoff_s: float = Field(default=1.0, ge=0)
    """Longest wait before the second attempt; it doubles with each further one. Drawn from its upper half."""
    concurrency: int = Field(default=8, ge=1)
    """Requests in flight at a time, for each worker."""
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
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights; "auto" takes that of the saved model."""
    device: str = "auto"
    """A torch device; "auto" is cuda where there is one, else cpu."""
    batch_size: int = Field(default=8, ge=1)
    """Requests in one call of the model."""

    def model_name(self) -> str:
        """The name stored with what it wrote. Not a whole path: rows leave this machine, and must not differ by it."""
        path = Path(self.model)
        return self.stored_name or ("/".join(path.absolute().parts[-2:]) if path.is_dir() else self.model)


class GenerationConfig(Config):
    """What every step that asks a model lets be chosen."""

    backend: Annotated[OpenAIEndpointConfig | TransformersConfig, Field(discriminator="kind")]
    """Where the model runs."""
    max_new_tokens: int = Field(default=512, ge=1)
    """A reply that reaches this many tokens is truncated, and its row rejected."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token each time; above 0, replies differ from run to run."""
    max_side: int = Field(default=1536, ge=28)
    """Longest side in pixels that the model is shown; larger images are shrunk for it. What is stored never changes."""

    def decisive(self) -> dict[str, Any]:
        """The config as JSON-able values without what decides no reply: where the model runs, and how fast."""
        values = self.as_json()
        names = ("kind", "model", "stored_name", "dtype", "batch_size")
        values["backend"] = {name: value for name, value in values["backend"].items() if name in names}
        return values
