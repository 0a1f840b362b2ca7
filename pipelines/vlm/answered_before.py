"""The backend of vLLM as a step sees it: a whole input is answered at once, before, and the step finds the replies.

An engine that is loaded in minutes and is fastest with thousands of questions at hand does not fit the pace of a step
that sees one batch. So the job asks ahead (`jobs.runners.vllm_ahead`), into the cache, and nothing is left to ask here.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.vlm.backend import NOBODY, Reply, Request, Watcher
from pipelines.vlm.config import GenerationConfig, VLLMConfig
from pipelines.vlm.revision import model_revision
from schemas.errors import ConfigError, InputError, RowRejected


class AnsweredBefore:
    """Has nothing to answer with but what the cache holds."""

    def __init__(self, config: VLLMConfig, generation: GenerationConfig) -> None:
        self._config = config
        self._cache = generation.cache

    def preflight(self) -> None:
        """Look whether replies are kept at all.

        Raises:
            ConfigError: no cache.
        """
        if self._cache is None:
            mend = "Run the step in a pipeline, which has one in its run folder, or name one."
            raise ConfigError("cache", None, "must be given with the backend vllm", mend)

    def setup(self) -> None:
        """Nothing: the engine lives elsewhere."""

    def revision(self) -> str:
        """The config's, or a hash of the model's folder."""
        return model_revision(self._config.model, self._config.revision)

    def ask(self, requests: Sequence[Request], watcher: Watcher = NOBODY) -> list[Reply | RowRejected]:
        """Only called for what the cache lacks.

        Raises:
            InputError: always, where there is any request.
        """
        if requests:
            raise InputError(
                "backend.kind",
                "vllm",
                f"{len(requests)} questions of a batch were not asked ahead",
                "Run it with the runner ray (runner: {kind: ray}), which asks vLLM before the rows go on.",
            )
        return []
