"""What a prompt file for a judge holds."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from pipelines.vlm.prompt_files import Prompt, PromptFile, load_prompt_file

_PROMPTS = Path(__file__).parent / "prompts"
INSTRUCTION = "{instruction}"
"""Stands in a prompt where the pair's instruction goes."""


class JudgePrompt(PromptFile):
    """The content of a prompt file for a judge."""

    scores: dict[str, str] = Field(min_length=1)
    """Score as it is stored (snake_case) -> the label under which the reply gives it, as in `Score 1: 4`."""
    lowest: int = 1
    """Lowest score a reply may give, inclusive."""
    highest: int = 5
    """Highest score a reply may give, inclusive."""

    @field_validator("user")
    @classmethod
    def _says_the_instruction(cls, value: str) -> str:
        if INSTRUCTION not in value:
            raise ValueError(f"must hold {INSTRUCTION}, where the pair's instruction goes")
        return value

    @field_validator("scores")
    @classmethod
    def _distinct_labels(cls, value: dict[str, str]) -> dict[str, str]:
        labels = [label.strip().lower() for label in value.values()]
        if any(not label or ":" in label for label in labels) or len(set(labels)) != len(labels):
            raise ValueError("must name a label of its own for each score, without a colon")
        wrong = [name for name in value if not name.isidentifier() or name != name.lower()]
        if wrong:
            raise ValueError(f"'{wrong[0]}' must be snake_case")
        return value

    @model_validator(mode="after")
    def _limits_fit(self) -> JudgePrompt:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} must be below highest {self.highest}")
        return self

    def asked(self, instruction: str) -> str:
        """What the model is asked about a pair with this instruction."""
        return self.user.replace(INSTRUCTION, instruction)


def load_prompt(name_or_path: str) -> Prompt[JudgePrompt]:
    """A judge prompt by its name or file; arguments and errors as for `load_prompt_file`."""
    return load_prompt_file(JudgePrompt, name_or_path, _PROMPTS)
