"""The one prompt of the editing model: training, validation and inference all build it here.

A model remembers the version of the prompt that it was trained with, and hears no other. Changing a version would
change models that exist: add one instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from schemas.errors import InputError


@dataclass(frozen=True)
class PromptLayout:
    """How the chat of one row is laid out.

    Args:
        system: the system turn; None leaves the turn out.
        separator: what stands between the references and the instruction.
        dropped: what stands for a dropped instruction; None leaves nothing.
    """

    system: str | None
    separator: str = ""
    dropped: str | None = None


PROMPTS = {
    1: PromptLayout(system="You are a helpful assistant."),
    # As UniWorld-V1's training data and its reader have it (PKU-YuanGroup/UniWorld-V1).
    2: PromptLayout(system=None, separator="\n", dropped="Generate an image."),
}
"""Every version of the prompt. Version 2 is that of models converted from the UniWorld-V1 release."""

PROMPT_VERSION = 1
"""Version of a new model."""

MAX_INSTRUCTION = 10_000
"""Characters, inclusive. Attention grows with the square of the length: one runaway text would exhaust the memory."""


def edit_messages(instruction: str | None, references: int, version: int = PROMPT_VERSION) -> list[dict[str, Any]]:
    """The chat of one row: a system turn where the version has one, then the references in order followed by the
    instruction.

    Args:
        instruction: what to do to the references, or what to show; surrounding white space is dropped. None is the
            dropped instruction of guidance.
        references: number of reference images, 0 and more; 0 is a text-to-image row, or one whose images were dropped.
        version: one of `PROMPTS`.

    Returns:
        messages for a Qwen2.5-VL chat template, whose image entries hold no image (those go to the processor).

    Raises:
        InputError: an empty instruction, or one that is too long.
    """
    layout = PROMPTS[version]
    parts: list[dict[str, str]] = [{"type": "image"} for _ in range(references)]
    text = layout.dropped if instruction is None else _checked(instruction)
    if text is not None:
        parts.append({"type": "text", "text": (layout.separator if references else "") + text})
    turns = [] if layout.system is None else [{"role": "system", "content": [{"type": "text", "text": layout.system}]}]
    return [*turns, {"role": "user", "content": parts}]


def _checked(instruction: str) -> str:
    text = instruction.strip()
    if not text:
        raise InputError("instruction", instruction, "must not be empty", "Say what to change.")
    if len(text) > MAX_INSTRUCTION:
        raise InputError("instruction", text, f"has {len(text)} characters; at most {MAX_INSTRUCTION}", "Shorten it.")
    return text


def refuse_special_tokens(instruction: str, special_tokens: Iterable[str]) -> None:
    """Refuse an instruction that would be read as markup of the chat.

    Raises:
        InputError: `instruction` holds one of `special_tokens` ("<|vision_end|>" and the like).
    """
    for token in special_tokens:
        if token and token in instruction:
            raise InputError("instruction", instruction, f"must not hold the special token {token}", "Remove it.")
