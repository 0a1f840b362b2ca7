"""What a prompt file for captions holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.vlm.prompt_files import Prompt, PromptFile, load_prompt_file
from pipelines.vlm.reading import TextLimits, object_schema

_PROMPTS = Path(__file__).parent / "prompts"
Kind = Literal["short", "long"]


class CaptionPrompt(PromptFile):
    """The content of a prompt file for captions: either `kind` with its limits, for a reply that is the caption; or
    `captions`, for a reply that is a JSON object with one caption for each kind."""

    kind: Kind | None = None
    """Kind of the caption that a plain reply is."""
    min_characters: int = Field(default=1, ge=1)
    """With `kind`: shortest caption accepted, inclusive."""
    max_characters: int | None = Field(default=None, ge=1)
    """With `kind`: longest caption accepted, inclusive."""
    captions: dict[Kind, TextLimits] = Field(default_factory=dict)
    """Kind -> its limits; the reply is an object with these keys, in this order."""

    @model_validator(mode="after")
    def _one_form(self) -> CaptionPrompt:
        if (self.kind is None) == (not self.captions):
            raise ValueError("must have either kind or captions")
        if self.kind is not None and self.max_characters is None:
            raise ValueError("max_characters is required with kind")
        if self.max_characters is not None:
            TextLimits(min_characters=self.min_characters, max_characters=self.max_characters)
        return self

    def limits(self) -> dict[Kind, TextLimits]:
        """Kind -> its limits, whatever the form."""
        if self.kind is not None and self.max_characters is not None:
            return {self.kind: TextLimits(min_characters=self.min_characters, max_characters=self.max_characters)}
        return self.captions

    def schema_of_reply(self) -> dict[str, Any] | None:
        """JSON schema of the reply, or None where it is plain text."""
        return object_schema(list(self.captions)) if self.captions else None


def load_prompt(name_or_path: str) -> Prompt[CaptionPrompt]:
    """A caption prompt by its name or file; arguments and errors as for `load_prompt_file`."""
    return load_prompt_file(CaptionPrompt, name_or_path, _PROMPTS)
