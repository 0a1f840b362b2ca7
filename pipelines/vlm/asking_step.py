"""The base of steps that ask a vision-language model: a prompt from a file, a backend, and what both decide."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from pipelines.step import Step
from pipelines.vlm.asker import Asker
from pipelines.vlm.backends import make_backend
from pipelines.vlm.config import GenerationConfig, TransformersConfig
from pipelines.vlm.prompt_files import Prompt, PromptFile

ConfigT = TypeVar("ConfigT", bound=GenerationConfig)
PromptT = TypeVar("PromptT", bound=PromptFile)


class AskingStep(Step[ConfigT], Generic[ConfigT, PromptT]):
    """A step with a prompt and a model to ask. A subclass declares as for `Step`, and gives `process`."""

    abstract_step: ClassVar[bool] = True
    holds_model: ClassVar[bool] = True

    def __init__(self, config: ConfigT, prompt: Prompt[PromptT]) -> None:
        """Keep the prompt, which is small and decides the step's identity; the model is left to `setup`."""
        super().__init__(config)
        self._prompt = prompt
        self.asker: Asker = make_backend(config)

    @property
    def computes_model(self) -> bool:
        """Not where the model is behind an endpoint, or was asked ahead."""
        backend = self.config.backend
        return isinstance(backend, TransformersConfig) and backend.device != "cpu"

    def identity(self) -> dict[str, Any]:
        """Model, prompt by its hash, and settings. Where the model runs, and how fast, decides nothing."""
        values = self.config.decisive()
        values["prompt"] = {"name": self._prompt.file.name, "sha256": self._prompt.sha256}
        return {"step": self.name, "version": self.version, "config": values}

    def preflight(self) -> None:
        """As the backend's."""
        self.asker.preflight()

    def setup(self) -> None:
        """As the backend's."""
        self.asker.setup()
