"""What a captioning backend is: images and a prompt in, for each image a reply or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from pipelines.recaption.prompt import PromptFile
from schemas.errors import RowRejected


@dataclass(frozen=True)
class Reply:
    """What a model said, unjudged.

    Args:
        text: as it came.
        finish_reason: "stop" where the model ended by itself, "length" where it was cut off, else the endpoint's word.
    """

    text: str
    finish_reason: str


class CaptionBackend(Protocol):
    """A model that describes images."""

    def preflight(self) -> None:
        """Raises an `EditmillError` where the model cannot be reached or loaded. Loads nothing heavy."""

    def setup(self) -> None:
        """Make ready for `describe`; called once in each process."""

    def describe(self, images: Sequence[pa.Buffer], prompt: PromptFile) -> list[Reply | RowRejected]:
        """One result for each encoded image, in order. One image's failure never touches another's.

        Raises:
            EditmillError: no image at all can be described (the key is refused, the model is gone).
        """
