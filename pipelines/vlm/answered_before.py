"""The backend of vLLM as a step sees it: a whole input is answered at once, before, and the step finds the replies.

An engine that is loaded in minutes and is fastest with thousands of questions at hand does not fit the pace of a step
that sees one batch. So the job asks ahead (`jobs.runners.answer_ahead`) into the cache; nothing is left to ask here.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from pipelines.vlm.backend import NOBODY, Reply, Request, Watcher
from pipelines.vlm.config import GenerationConfig, VLLMConfig
from pipelines.vlm.images import endpoint_image
from pipelines.vlm.revision import model_revision
from schemas.errors import ConfigError, InputError, RowRejected


class AnsweredBefore:
    """Has nothing to answer with but what the cache holds."""

    def __init__(self, config: VLLMConfig, generation: GenerationConfig) -> None:
        self._config = config
        self._cache = generation.cache
        self._max_side = generation.max_side

    def preflight(self) -> None:
        """Look for vLLM, and whether replies are kept at all.

        Raises:
            InputError: vLLM is not installed.
            ConfigError: no cache.
        """
        if find_spec("vllm") is None:
            raise InputError(
                "backend.kind",
                "vllm",
                "needs the package vllm",
                "In an environment of its own, in the clone, run pip install '.[vllm]'; or serve the model and use "
                "the backend openai.",
            )
        if self._cache is None:
            mend = "Run the step in a pipeline, which has one in its run folder, or name one."
            raise ConfigError("cache", None, "must be given with the backend vllm", mend)

    def setup(self) -> None:
        """Nothing: the engine lives elsewhere."""

    def revision(self) -> str:
        """The config's, or a hash of the model's folder."""
        return model_revision(self._config.model, self._config.revision)

    def ask(self, requests: Sequence[Request], watcher: Watcher = NOBODY) -> list[Reply | RowRejected]:
        """Only called for what the cache lacks: questions whose images cannot be shown, which are answered with why.

        Raises:
            InputError: a question was not asked ahead, though it could have been.
        """
        return [self._refusal(request) for request in requests]

    def _refusal(self, request: Request) -> RowRejected:
        try:
            for image in request.images:
                endpoint_image(image.to_pybytes(), self._max_side)
        except RowRejected as rejection:
            return rejection
        raise InputError(
            "backend.kind",
            "vllm",
            "was not asked ahead of the step",
            "Run it with the runner ray (runner: {kind: ray}), which asks vLLM before the rows go on.",
        )
