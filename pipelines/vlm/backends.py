"""The backends by config. To add one, add its config to `GenerationConfig` and a line here."""

from __future__ import annotations

from pipelines.vlm.backend import VLMBackend
from pipelines.vlm.config import GenerationConfig, OpenAIEndpointConfig


def make_backend(config: GenerationConfig) -> VLMBackend:
    """The backend that `config` names. Imports only what that one needs."""
    if isinstance(config.backend, OpenAIEndpointConfig):
        from pipelines.vlm.openai_endpoint import OpenAIEndpoint

        return OpenAIEndpoint(config.backend, config)
    from pipelines.vlm.local_transformers import LocalTransformers

    return LocalTransformers(config.backend, config)
