"""The step `review`: rows that a curator marked bad do not go on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.review.marks import Mark, Marked, read_marks
from pipelines.step import Step, StepResult
from schemas.atomic import fingerprint
from schemas.config import Config
from schemas.outcomes import rejections


class ReviewConfig(Config):
    """Config of the step `review`."""

    marks: Path
    """The marks file (see `pipelines.review.marks`), which the preview page saves as `marks.jsonl`."""
    unsure: Literal["keep", "reject"] = "keep"
    """What becomes of rows marked unsure."""


class Review(Step[ReviewConfig]):
    """Rejects rows that a curator marked bad (reason `marked_bad`), and unsure ones by choice (`marked_unsure`).

    The curator's note stands in the sentence. Rows without a mark, or marked good, go on as they are.
    """

    name: ClassVar[str] = "review"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = ReviewConfig
    needs: ClassVar[tuple[str, ...]] = ()
    adds: ClassVar[pa.Schema] = pa.schema([])

    @cached_property
    def marks(self) -> Mapping[str, Marked]:
        """The marks by key. Read once, before the step travels: a worker needs no marks file.

        Raises:
            InputError: the file cannot be read, or a line of it is no mark.
        """
        return read_marks(self.config.marks)

    @cached_property
    def rejecting(self) -> dict[str, Marked]:
        """The marks that reject a row, by key."""
        refused = {Mark.BAD} if self.config.unsure == "keep" else {Mark.BAD, Mark.UNSURE}
        return {key: marked for key, marked in self.marks.items() if marked.mark in refused}

    def identity(self) -> dict[str, Any]:
        """What the marks come to, wherever the file lies: more good ones change nothing."""
        meaning = sorted((key, marked.mark.value, marked.note) for key, marked in self.rejecting.items())
        return {"step": self.name, "version": self.version, "marks": fingerprint(meaning)}

    def process(self, table: pa.Table) -> StepResult:
        """Part the rows."""
        rejecting = self.rejecting
        refused = pc.is_in(table["key"], value_set=pa.array(list(rejecting), pa.string()))
        keys: list[str] = table["key"].filter(refused).to_pylist()
        marks = [rejecting[key] for key in keys]
        outcomes = rejections(
            self.name,
            self.version,
            keys,
            [f"marked_{marked.mark.value}" for marked in marks],
            [_sentence(marked) for marked in marks],
            evidence=[{"mark": marked.mark.value, "note": marked.note} for marked in marks],
        )
        return StepResult(table.filter(pc.invert(refused)) if keys else table, outcomes)


def _sentence(marked: Marked) -> str:
    return f"marked {marked.mark.value} by hand" + (f": {marked.note}" if marked.note else ", without a note")
