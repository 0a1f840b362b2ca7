"""Asking again, with the fault named, where a reply cannot be used: a bounded number of times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pydantic import Field

from pipelines.vlm.asker import Asker
from pipelines.vlm.backend import Reply, Request
from pipelines.vlm.config import GenerationConfig
from pipelines.vlm.reading import ReplyFault
from schemas.errors import RowRejected

_QUOTED = 2000
"""Characters of a faulty reply that are shown to the model again, and kept as evidence."""

Value = TypeVar("Value")


class RepairConfig(GenerationConfig):
    """What a step lets be chosen whose replies must follow rules."""

    max_repairs: int = Field(default=1, ge=0)
    """How often the model is told what was wrong with its reply, and asked again; then the row is rejected."""


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """What became of a question.

    Args:
        value: what was read of the last reply, or why there is nothing.
        prompt_tokens, completion_tokens: of all replies to it, those from the cache included.
    """

    value: Value | RowRejected
    prompt_tokens: int = 0
    completion_tokens: int = 0


def ask_until_read(
    asker: Asker, requests: Sequence[Request], read: Callable[[Reply], Value], max_repairs: int
) -> list[Answer[Value]]:
    """One answer for each request, in order.

    Args:
        read: what a reply says; raises a `ReplyFault` where the model may be asked again, else a `RowRejected`.
        max_repairs: >= 0.

    Raises:
        EditmillError: as `Asker.ask`.
    """
    answers: list[Answer[Value]] = [Answer(RowRejected("not_asked", "was not asked"))] * len(requests)
    now = dict(enumerate(requests))
    for attempt in range(max_repairs + 1):
        replies = asker.ask(list(now.values()))
        again: dict[int, Request] = {}
        for (place, request), reply in zip(now.items(), replies, strict=True):
            answers[place] = answer = _answer(answers[place], reply, read, attempt)
            if isinstance(reply, Reply) and isinstance(answer.value, ReplyFault):
                again[place] = _with_fault(request, reply, answer.value)
        now = again
        if not now:
            break
    return answers


def _answer(
    before: Answer[Value], reply: Reply | RowRejected, read: Callable[[Reply], Value], attempt: int
) -> Answer[Value]:
    if isinstance(reply, RowRejected):
        return replace(before, value=reply)
    prompt = before.prompt_tokens + (reply.prompt_tokens or 0)
    completion = before.completion_tokens + (reply.completion_tokens or 0)
    try:
        return Answer(read(reply), prompt, completion)
    except RowRejected as fault:
        asked = f"; asked {attempt + 1} times" if attempt else ""
        evidence = {"reply": _printable(reply.text), "prompt_tokens": prompt, "completion_tokens": completion}
        told = type(fault)(fault.reason, f"{fault.sentence}{asked}", {**(fault.evidence or {}), **evidence})
        return Answer(told, prompt, completion)


def _with_fault(request: Request, reply: Reply, fault: ReplyFault) -> Request:
    said = _printable(reply.text).strip() or "(nothing)"
    form = "Reply with the JSON object and nothing else." if request.schema is not None else "Reply with it alone."
    told = f"This cannot be used: {fault.sentence.partition('; asked')[0]}. Answer again. {form}"
    return replace(request, turns=(*request.turns, (said, told)))


def _printable(text: str) -> str:
    """The beginning of a reply, as text that any encoding of it can hold."""
    return text[:_QUOTED].encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
