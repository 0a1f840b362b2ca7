"""FLUX's own text encoders, CLIP and T5: optional, frozen, and each usable without the other.

UniWorld-V1 trains without them, on the pooled embedding of an empty text; its inference adds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CLIP_LENGTH = 77
"""Tokens that CLIP takes."""


@dataclass(frozen=True)
class TextTokenizers:
    """Tokenizers of the text encoders that a model has.

    Args:
        clip: a `CLIPTokenizer`, or None.
        t5: a `T5Tokenizer`, or None.
        t5_length: tokens that an instruction is cut or padded to for T5. It is fixed, since FLUX sees the padding.
    """

    clip: Any = None
    t5: Any = None
    t5_length: int = 512

    def clip_ids(self, instructions: Sequence[str | None]) -> Tensor | None:
        """(B, 77) int64, or None without CLIP. A dropped instruction is an empty text."""
        return None if self.clip is None else _ids(self.clip, instructions, CLIP_LENGTH)

    def t5_ids(self, instructions: Sequence[str | None]) -> Tensor | None:
        """(B, t5_length) int64, or None without T5. A dropped instruction is an empty text."""
        return None if self.t5 is None else _ids(self.t5, instructions, self.t5_length)


class TextEncoders(nn.Module):
    """The text encoders that a model has.

    Args:
        clip: a `CLIPTextModel`, or None.
        t5: a `T5EncoderModel`, or None.
    """

    def __init__(self, clip: Any = None, t5: Any = None) -> None:
        super().__init__()
        self.clip = None if clip is None else clip.requires_grad_(False).eval()
        self.t5 = None if t5 is None else t5.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TextEncoders:
        """Stays in evaluation mode whatever `mode` is: the encoders are frozen."""
        del mode
        super().train(False)
        return self

    @torch.no_grad()
    def pooled(self, clip_ids: Tensor | None) -> Tensor | None:
        """(B, 77) -> (B, D) CLIP's pooled instruction; None without CLIP."""
        if self.clip is None or clip_ids is None:
            return None
        vector: Tensor = self.clip(input_ids=clip_ids).pooler_output
        return vector

    @torch.no_grad()
    def tokens(self, t5_ids: Tensor | None) -> Tensor | None:
        """(B, M) -> (B, M, D) T5's last hidden states, of padding too; None without T5."""
        if self.t5 is None or t5_ids is None:
            return None
        states: Tensor = self.t5(input_ids=t5_ids).last_hidden_state
        return states


def empty_pooled(clip: Any, tokenizer: Any) -> Tensor:
    """(D,) CLIP's pooled embedding of an empty text, on which UniWorld-V1 trains."""
    with torch.no_grad():
        pooled: Tensor = clip(input_ids=_ids(tokenizer, [None], CLIP_LENGTH)).pooler_output[0]
    return pooled


def _ids(tokenizer: Any, instructions: Sequence[str | None], length: int) -> Tensor:
    texts = ["" if text is None else text.strip() for text in instructions]
    encoded = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    ids: Tensor = encoded["input_ids"]
    return ids
