"""The captioning backends by config. To add one, add its config to `RecaptionConfig` and a line here."""

from __future__ import annotations

from pipelines.recaption.backend import CaptionBackend
from pipelines.recaption.config import OpenAIEndpointConfig, RecaptionConfig


def make_backend(config: RecaptionConfig) -> CaptionBackend:
    """The backend that `config` names. Imports only what that one needs."""
    if isinstance(config.backend, OpenAIEndpointConfig):
        from pipelines.recaption.openai_endpoint import OpenAIEndpoint

        return OpenAIEndpoint(config.backend, config)
    from pipelines.recaption.local_transformers import LocalTransformers

    return LocalTransformers(config.backend, config)
