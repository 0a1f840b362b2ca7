"""What a prompt file for captions holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pipelines.vlm.prompt_files import Prompt, PromptFile, load_prompt_file

_PROMPTS = Path(__file__).parent / "prompts"


class CaptionPrompt(PromptFile):
    """The content of a prompt file for captions."""

    kind: Literal["long", "short"]
    """Kind of the captions it asks for."""
    min_characters: int = Field(default=1, ge=1)
    """Shortest reply accepted, inclusive."""
    max_characters: int = Field(ge=1)
    """Longest reply accepted, inclusive."""

    @model_validator(mode="after")
    def _limits_fit(self) -> CaptionPrompt:
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} is above max_characters {self.max_characters}")
        return self


def load_prompt(name_or_path: str) -> Prompt[CaptionPrompt]:
    """A caption prompt by its name or file; arguments and errors as for `load_prompt_file`."""
    return load_prompt_file(CaptionPrompt, name_or_path, _PROMPTS)
