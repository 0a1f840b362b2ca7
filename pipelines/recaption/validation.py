"""Which replies are captions."""

from __future__ import annotations

from pipelines.recaption.prompt import CaptionPrompt, Kind
from pipelines.vlm.backend import Reply
from pipelines.vlm.reading import checked_text, read_object, whole_reply


def read_captions(reply: Reply, prompt: CaptionPrompt) -> dict[Kind, str]:
    """The captions of a reply by kind, each whole, printable and within its limits.

    Raises:
        RowRejected: `caption_truncated`, `caption_unfinished`, `caption_empty`, `caption_not_json`,
            `caption_wrong_schema`, `caption_not_printable`, `caption_too_short`, `caption_too_long`.
    """
    text = whole_reply(reply, "caption")
    if prompt.kind is not None:
        return {kind: checked_text(text, limits, "caption") for kind, limits in prompt.limits().items()}
    captions = read_object(text, list(prompt.captions), "caption")
    return {
        kind: checked_text(captions[kind], limits, "caption", f"'{kind}'") for kind, limits in prompt.captions.items()
    }
