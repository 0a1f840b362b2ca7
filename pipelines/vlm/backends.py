"""The backends by config. To add one, add its config to `GenerationConfig` and a line here."""

from __future__ import annotations

from pipelines.vlm.asker import Asker
from pipelines.vlm.backend import VLMBackend
from pipelines.vlm.config import GenerationConfig, OpenAIEndpointConfig, VLLMConfig


def make_backend(config: GenerationConfig) -> Asker:
    """The backend that `config` names, with the memory it asks for. Imports only what that one needs."""
    return Asker(_backend(config), config)


def _backend(config: GenerationConfig) -> VLMBackend:
    if isinstance(config.backend, OpenAIEndpointConfig):
        from pipelines.vlm.openai_endpoint import OpenAIEndpoint

        return OpenAIEndpoint(config.backend, config)
    if isinstance(config.backend, VLLMConfig):
        from pipelines.vlm.answered_before import AnsweredBefore

        return AnsweredBefore(config.backend, config)
    from pipelines.vlm.local_transformers import LocalTransformers

    return LocalTransformers(config.backend, config)
