"""What a prompt file for instructions holds, and which replies are instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from pipelines.vlm.backend import Reply
from pipelines.vlm.prompt_files import Prompt, PromptFile, load_prompt_file
from pipelines.vlm.reading import ReplyFault, TextLimits, checked_text, object_schema, read_object, whole_reply
from schemas.errors import RowRejected

_PROMPTS = Path(__file__).parent / "instruction_prompts"
_FIELDS = ("edit_type", "instruction")


class InstructionPrompt(PromptFile):
    """The content of a prompt file for instructions. The images stand before the text: references, then the target."""

    edit_types: tuple[str, ...] = Field(min_length=1)
    """The edit types that a reply may give."""
    no_edit: str | None = None
    """What a reply gives as edit type where it sees no edit; such a row is rejected."""
    min_characters: int = Field(default=1, ge=1)
    """Shortest instruction accepted, inclusive."""
    max_characters: int = Field(ge=1)
    """Longest instruction accepted, inclusive."""

    @model_validator(mode="after")
    def _consistent(self) -> InstructionPrompt:
        self.limits()
        if self.no_edit in self.edit_types:
            raise ValueError(f"no_edit '{self.no_edit}' must not be among edit_types")
        return self

    def limits(self) -> TextLimits:
        """How long an instruction may be."""
        return TextLimits(min_characters=self.min_characters, max_characters=self.max_characters)

    def schema_of_reply(self) -> dict[str, Any]:
        """JSON schema of the reply."""
        none = () if self.no_edit is None else (self.no_edit,)
        return object_schema(_FIELDS, {"edit_type": (*self.edit_types, *none)})


def load_instruction_prompt(name_or_path: str) -> Prompt[InstructionPrompt]:
    """An instruction prompt by its name or file; arguments and errors as for `load_prompt_file`."""
    return load_prompt_file(InstructionPrompt, name_or_path, _PROMPTS)


def read_instruction(reply: Reply, prompt: InstructionPrompt) -> tuple[str, str]:
    """Edit type and instruction of a reply.

    Raises:
        RowRejected: `no_edit_seen`, `instruction_unfinished`, `instruction_truncated`, `instruction_empty`,
            `instruction_not_json`, `instruction_wrong_schema`, `instruction_not_printable`, `instruction_too_short`,
            `instruction_too_long`, `edit_type_unknown`.
    """
    value = read_object(whole_reply(reply, "instruction"), _FIELDS, "instruction")
    edit_type = value["edit_type"]
    if prompt.no_edit is not None and edit_type == prompt.no_edit:
        raise RowRejected("no_edit_seen", "the model sees no edit between the images")
    if edit_type not in prompt.edit_types:
        raise ReplyFault("edit_type_unknown", f"'{edit_type[:60]}' is none of {', '.join(prompt.edit_types)}")
    return edit_type, checked_text(value["instruction"], prompt.limits(), "instruction", "'instruction'")
