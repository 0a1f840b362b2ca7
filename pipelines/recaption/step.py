"""The `recaption` step: validated captions of each image, with what wrote them."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import pyarrow as pa

from pipelines.recaption.config import RecaptionConfig
from pipelines.recaption.prompt import CaptionPrompt, load_prompt
from pipelines.recaption.validation import read_captions
from pipelines.step import StepResult
from pipelines.vlm.asking_step import AskingStep
from pipelines.vlm.backend import Request
from pipelines.vlm.images import encoded_bytes
from pipelines.vlm.rows import CAPTIONS, MODEL_TOKENS, append_captions, append_tokens, ask_about_rows, written_by
from schemas.config import Config
from schemas.errors import RowRejected, SchemaError
from schemas.records import IMAGE_TYPE


class Recaption(AskingStep[RecaptionConfig, CaptionPrompt]):
    """Appends captions to `captions`. A reply that is no whole caption rejects its row, and is never stored."""

    name: ClassVar[str] = "recaption"
    version: ClassVar[int] = 2
    config_class: ClassVar[type[Config]] = RecaptionConfig
    needs: ClassVar[tuple[str, ...]] = ("image",)
    adds: ClassVar[pa.Schema] = pa.schema([CAPTIONS, MODEL_TOKENS])

    def __init__(self, config: RecaptionConfig) -> None:
        """Load the prompt.

        Raises:
            ConfigError, InputError: the prompt does not exist or breaks a rule.
        """
        super().__init__(config, load_prompt(config.prompt))
        # What this very step needs is the column its config names.
        vars(self)["needs"] = (config.column,)

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
        prompt = self._prompt.file
        answered = ask_about_rows(
            (self.name, self.version),
            table,
            [self._request(value) for value in column],
            self.asker,
            partial(read_captions, prompt=prompt),
            self.config.max_repairs,
        )
        origin = written_by(self.config, self._prompt)
        captions = [
            [{"text": text, "kind": kind, **origin} for kind, text in (value or {}).items()]
            for value in answered.values
        ]
        result = append_captions(answered.table, captions)
        result = append_tokens(result, self.name, answered.tokens)
        return StepResult(result, answered.rejected, figures=self.asker.figures())

    def _request(self, image: pa.StructScalar) -> Request | RowRejected:
        buffer = encoded_bytes(image)
        if buffer is None:
            return RowRejected("image_missing", "the row has no image")
        prompt = self._prompt.file
        return Request(prompt.system, (buffer, prompt.user), schema=prompt.schema_of_reply())
