"""Which replies are captions. Only measurable rules: nobody guesses at a text's meaning here."""

from __future__ import annotations

import unicodedata

from pipelines.recaption.prompt import CaptionPrompt
from pipelines.vlm.backend import Reply
from schemas.errors import RowRejected

_UNPRINTABLE = frozenset({"Cc", "Cs", "Co", "Cn"})
"""Unicode categories: control, surrogate, private use, unassigned."""


def caption_text(reply: Reply, prompt: CaptionPrompt) -> str:
    """The reply's text without surrounding white space, once it is clear that it is a whole caption.

    Raises:
        RowRejected: `caption_truncated`, `caption_unfinished`, `caption_empty`, `caption_not_printable`,
            `caption_too_short`, `caption_too_long`.
    """
    if reply.finish_reason == "length":
        raise RowRejected("caption_truncated", f"the reply was cut off after {len(reply.text)} characters")
    if reply.finish_reason != "stop":
        raise RowRejected("caption_unfinished", f"the model ended with '{reply.finish_reason}' instead of 'stop'")
    text = reply.text.strip()
    if not text:
        raise RowRejected("caption_empty", "the reply holds no text")
    for place, character in enumerate(text):
        # U+FFFD stands for bytes that were no text.
        if character == "\ufffd" or (unicodedata.category(character) in _UNPRINTABLE and character not in "\n\t"):
            raise RowRejected("caption_not_printable", f"character {place + 1} of the reply is U+{ord(character):04X}")
    if len(text) < prompt.min_characters:
        limit = prompt.min_characters
        raise RowRejected("caption_too_short", f"the reply has {len(text)} characters, fewer than {limit}")
    if len(text) > prompt.max_characters:
        limit = prompt.max_characters
        raise RowRejected("caption_too_long", f"the reply has {len(text)} characters, more than {limit}")
    return text
