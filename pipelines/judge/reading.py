"""From a reply to scores: strictly, since a number that was guessed at would be trained on."""

from __future__ import annotations

import re

from pipelines.judge.prompt import JudgePrompt
from pipelines.vlm.backend import Reply
from pipelines.vlm.reading import ReplyFault
from schemas.errors import RowRejected

UNPARSED = "judge_unparsed"
_MARKS = r"[\s*_#>-]*"
"""What Markdown may put around a label or a number."""


def read_scores(reply: Reply, prompt: JudgePrompt) -> dict[str, int]:
    """The scores in a reply, by the names that the prompt stores them under.

    Each label must stand at the beginning of exactly one line, followed by a colon and a whole number from `lowest` to
    `highest`; behind it only a remark in brackets and a full stop may stand. Other lines are the judge's own.

    Raises:
        ReplyFault: `judge_unparsed`, for anything else: cut off, a score missing, given twice, broken ("4.5", "3-4",
            "4/5"), or out of range.
        RowRejected: `judge_unparsed`, where the model neither came to its end nor was cut off.
    """
    if reply.finish_reason != "stop":
        why = f"the model ended with '{reply.finish_reason}' instead of 'stop'"
        # Cut off, it may be shorter the next time; what else ends a model ends it again.
        raise _unparsed(why) if reply.finish_reason == "length" else RowRejected(UNPARSED, _sentence(why))
    scores = {}
    for name, label in prompt.scores.items():
        lines = re.findall(rf"^{_MARKS}{re.escape(label)}{_MARKS}:(.*)$", reply.text, re.IGNORECASE | re.MULTILINE)
        if len(lines) != 1:
            found = "no line" if not lines else f"{len(lines)} lines"
            raise _unparsed(f"{found} '{label}: NUMBER' in the reply")
        number = re.fullmatch(rf"{_MARKS}([0-9]{{1,3}}){_MARKS}(?:\([^()]*\))?\.?{_MARKS}", lines[0])
        if number is None:
            raise _unparsed(f"'{label}:{lines[0].rstrip()}' is no whole number")
        score = int(number[1])
        if not prompt.lowest <= score <= prompt.highest:
            raise _unparsed(f"'{label}: {score}' is not from {prompt.lowest} to {prompt.highest}")
        scores[name] = score
    return scores


def _unparsed(why: str) -> ReplyFault:
    return ReplyFault(UNPARSED, _sentence(why))


def _sentence(why: str) -> str:
    return f"the judge's reply holds no scores: {why}"
