"""The `write_instructions` step: edit type and instruction of pairs that lack one, from the images alone."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import pyarrow as pa

from pipelines.recaption.config import WriteInstructionsConfig
from pipelines.recaption.instruction_prompt import InstructionPrompt, load_instruction_prompt, read_instruction
from pipelines.step import StepResult, set_column
from pipelines.vlm.asking_step import AskingStep
from pipelines.vlm.backend import Request
from pipelines.vlm.images import encoded_bytes
from pipelines.vlm.rows import CAPTIONS, MODEL_TOKENS, append_captions, append_tokens, ask_about_rows, written_by
from schemas.config import Config
from schemas.errors import RowRejected
from schemas.records import EDIT_PAIR

KIND = "instruction"
"""Kind under which a written instruction stands in `captions`, with the model and the prompt that wrote it."""
_INSTRUCTION = pa.field("instruction", pa.string())
_EDIT_TYPE = EDIT_PAIR.fields.field("edit_type")


class WriteInstructions(AskingStep[WriteInstructionsConfig, InstructionPrompt]):
    """Writes `instruction`, and `edit_type` where the pair has none; the key stays as it was.

    Pairs that have an instruction go on untouched. Reasons: those of `read_instruction`, `reference_missing`,
    `image_missing`, those of `schemas.images`, and those of the backend (`endpoint_...`).
    """

    name: ClassVar[str] = "write_instructions"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = WriteInstructionsConfig
    needs: ClassVar[tuple[str, ...]] = ("references", "target", "instruction")
    adds: ClassVar[pa.Schema] = pa.schema([_INSTRUCTION, _EDIT_TYPE, CAPTIONS, MODEL_TOKENS])

    def __init__(self, config: WriteInstructionsConfig) -> None:
        """Load the prompt.

        Raises:
            ConfigError, InputError: the prompt does not exist or breaks a rule.
        """
        super().__init__(config, load_instruction_prompt(config.prompt))

    def process(self, table: pa.Table) -> StepResult:
        """Write the instructions that are missing in the batch."""
        answered = ask_about_rows(
            (self.name, self.version),
            table,
            [self._request(table, position) for position in range(table.num_rows)],
            self.asker,
            partial(read_instruction, prompt=self._prompt.file),
            self.config.max_repairs,
        )
        rows = answered.table
        instructions = rows["instruction"].to_pylist()
        known = rows["edit_type"].to_pylist() if "edit_type" in rows.column_names else [None] * rows.num_rows
        origin = {"kind": KIND, **written_by(self.config, self._prompt)}
        captions: list[list[dict[str, Any]]] = []
        for row, value in enumerate(answered.values):
            if value is None:
                captions.append([])
                continue
            edit_type, instructions[row] = value
            known[row] = known[row] or edit_type
            captions.append([{"text": instructions[row], **origin}])
        rows = set_column(rows, _INSTRUCTION, pa.array(instructions, pa.string()))
        rows = set_column(rows, _EDIT_TYPE, pa.array(known, _EDIT_TYPE.type))
        rows = append_tokens(append_captions(rows, captions), self.name, answered.tokens)
        return StepResult(rows, answered.rejected, figures=self.asker.figures())

    def _request(self, table: pa.Table, position: int) -> Request | RowRejected | None:
        """References in order, the target, the text; None where nothing is missing."""
        if not self.config.rewrite and (table["instruction"][position].as_py() or "").strip():
            return None
        references = table["references"][position]
        images = [encoded_bytes(image) for image in (references.values if references.is_valid else ())]
        if not images:
            return RowRejected("reference_missing", "the pair has no reference image")
        images.append(encoded_bytes(table["target"][position]))
        present = [image for image in images if image is not None]
        if len(present) < len(images):
            return RowRejected("image_missing", "an image of the pair has no bytes")
        prompt = self._prompt.file
        return Request(prompt.system, (*present, prompt.user), schema=prompt.schema_of_reply())
