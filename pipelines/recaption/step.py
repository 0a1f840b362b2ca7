"""The `recaption` step: a validated caption for each image, with what wrote it."""

from __future__ import annotations

from typing import Any, ClassVar

import pyarrow as pa

from pipelines.recaption.config import RecaptionConfig
from pipelines.recaption.prompt import CaptionPrompt, load_prompt
from pipelines.recaption.validation import caption_text
from pipelines.step import Step, StepResult, set_column
from pipelines.vlm.backend import Reply, Request, VLMBackend
from pipelines.vlm.backends import make_backend
from pipelines.vlm.images import encoded_bytes
from pipelines.vlm.prompt_files import Prompt
from schemas.config import Config
from schemas.errors import RowRejected, SchemaError
from schemas.outcomes import rejections
from schemas.records import CAPTION_TYPE, IMAGE_TYPE

_CAPTIONS = pa.field("captions", pa.list_(CAPTION_TYPE))


class Recaption(Step[RecaptionConfig]):
    """Appends one caption to `captions`. A reply that is no whole caption rejects its row, and is never stored."""

    name: ClassVar[str] = "recaption"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = RecaptionConfig
    needs: ClassVar[tuple[str, ...]] = ("image",)
    adds: ClassVar[pa.Schema] = pa.schema([_CAPTIONS])
    holds_model: ClassVar[bool] = True

    def __init__(self, config: RecaptionConfig) -> None:
        """Load the prompt, which is small and decides the step's identity; the model is left to `setup`.

        Raises:
            ConfigError, InputError: the prompt does not exist or breaks a rule.
        """
        super().__init__(config)
        # What this very step needs is the column its config names.
        vars(self)["needs"] = (config.column,)
        self._prompt: Prompt[CaptionPrompt] = load_prompt(config.prompt)
        self._backend: VLMBackend = make_backend(config)

    def identity(self) -> dict[str, Any]:
        """Model, prompt by its hash, and generation settings. Where the model runs, and how fast, decides nothing."""
        values = self.config.decisive()
        values["prompt"] = {"name": self._prompt.file.name, "sha256": self._prompt.sha256}
        return {"step": self.name, "version": self.version, "config": values}

    def preflight(self) -> None:
        """As the backend's."""
        self._backend.preflight()

    def setup(self) -> None:
        """As the backend's."""
        self._backend.setup()

    def process(self, table: pa.Table) -> StepResult:
        """Describe every image of the batch; rejected are those without image, and those without a whole caption.

        Raises:
            SchemaError: the column holds no images.
        """
        column = table[self.config.column]
        if column.type != IMAGE_TYPE:
            raise SchemaError(
                self.config.column, str(column.type), f"must have the type {IMAGE_TYPE}", "Name the column of images."
            )
        buffers = [encoded_bytes(value) for value in column]
        prompt = self._prompt.file
        requests = [Request(prompt.system, (buffer, prompt.user)) for buffer in buffers if buffer is not None]
        replies = iter(self._backend.ask(requests))
        kept: list[int] = []
        texts: list[str] = []
        rejected: list[tuple[str, str, str]] = []
        for position, buffer in enumerate(buffers):
            try:
                if buffer is None:
                    raise RowRejected("image_missing", "the row has no image")
                texts.append(self._caption(next(replies)))
                kept.append(position)
            except RowRejected as rejection:
                rejected.append((table["key"][position].as_py(), rejection.reason, rejection.sentence))
        result = table.take(pa.array(kept, pa.int64())) if rejected else table
        keys, reasons, sentences = zip(*rejected, strict=True) if rejected else ((), (), ())
        return StepResult(
            set_column(result, _CAPTIONS, self._captions(result, texts)),
            rejections(self.name, self.version, keys, reasons, sentences),
        )

    def _caption(self, outcome: Reply | RowRejected) -> str:
        if isinstance(outcome, RowRejected):
            raise outcome
        return caption_text(outcome, self._prompt.file)

    def _captions(self, table: pa.Table, texts: list[str]) -> pa.Array:
        """The captions that the rows already have, each followed by the new one."""
        before = table["captions"].to_pylist() if "captions" in table.column_names else [None] * table.num_rows
        origin = {
            "kind": self._prompt.file.kind,
            "model": self.config.backend.model_name(),
            "prompt": self._prompt.file.name,
            "prompt_version": self._prompt.file.version,
            "prompt_sha256": self._prompt.sha256,
        }
        captions = [[*(known or []), {"text": text, **origin}] for known, text in zip(before, texts, strict=True)]
        return pa.array(captions, _CAPTIONS.type)
