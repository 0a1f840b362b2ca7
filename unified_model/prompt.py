"""The one prompt of the editing model: training, validation and inference all build it here.

Raise `PROMPT_VERSION` with any change: a model remembers the version it was trained with, and loading one that was
trained with another is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.errors import InputError

PROMPT_VERSION = 1

SYSTEM_PROMPT = "You are a helpful assistant."

MAX_INSTRUCTION = 10_000
"""Characters, inclusive. Attention grows with the square of the length: one runaway text would exhaust the memory."""


def edit_messages(instruction: str | None, references: int) -> list[dict[str, Any]]:
    """The chat of one row: the system prompt, then the references in order followed by the instruction.

    Args:
        instruction: what to do to the references, or what to show; surrounding white space is dropped. None is the
            dropped instruction of guidance: the turn then holds the references only.
        references: number of reference images, 0 and more; 0 is a text-to-image row, or one whose images were dropped.

    Returns:
        messages for a Qwen2.5-VL chat template, whose image entries hold no image (those go to the processor).

    Raises:
        InputError: an empty instruction, or one that is too long.
    """
    parts: list[dict[str, str]] = [{"type": "image"} for _ in range(references)]
    if instruction is not None:
        parts.append({"type": "text", "text": _checked(instruction)})
    return [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPT}]},
        {"role": "user", "content": parts},
    ]


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
