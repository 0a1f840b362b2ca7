"""The loop over a batch: rows in = edited + rejected, one bad row never costs another, and what is done stays done."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from jobs.editing.formats import write_image
from jobs.editing.record import EDITED, REJECTED, BatchRecord, EditOutcome
from jobs.editing.rows import EditRow, EditRows, Sizing
from schemas.errors import ConfigError, InputError, RowRejected
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.processor import checked_reference
from unified_model.requests import EditRequest

Size = tuple[int, int]


@dataclass(frozen=True)
class Options:
    """How the rows are edited.

    Args:
        sampling: keywords of `UnifiedEditPipeline.edit`.
        default: what rows take that say nothing.
        batch_size: images of one size that are made at once.
        limit: rows taken from the front; None takes all.
    """

    sampling: dict[str, Any]
    default: Sizing
    batch_size: int = 1
    limit: int | None = None


@dataclass
class Tally:
    """Counts so far. rows = edited + rejected at the end; `edited` counts those that stood there before, too."""

    edited: int = 0
    before: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        """Rows rejected."""
        return self.reasons.total()


@dataclass(frozen=True)
class _Waiting:
    number: int
    row: EditRow
    request: EditRequest


def edit_batch(
    pipeline: UnifiedEditPipeline,
    rows: EditRows,
    folder: Path,
    record: BatchRecord,
    options: Options,
    progress: Callable[[Tally], None],
) -> Tally:
    """Edit every row that is not edited yet, and note what became of it.

    Args:
        folder: of the images.
        progress: called after each row.

    Raises:
        OutputError: an image or the record cannot be written.
    """
    run = _Run(pipeline, folder, record, options, progress)
    waiting: dict[Size, list[_Waiting]] = defaultdict(list)
    for number, row in enumerate(islice(rows, options.limit), start=1):
        for size, full in run.accept(number, row, waiting):
            run.make(size, full)
    for size, rest in waiting.items():
        run.make(size, rest)
    record.close(run.outcomes)
    return run.tally


class _Run:
    def __init__(
        self,
        pipeline: UnifiedEditPipeline,
        folder: Path,
        record: BatchRecord,
        options: Options,
        progress: Callable[[Tally], None],
    ) -> None:
        self._pipeline, self._folder, self._record = pipeline, folder, record
        self._options, self._progress = options, progress
        self.tally = Tally()
        self.outcomes: list[EditOutcome] = []

    def accept(
        self, number: int, row: EditRow, waiting: dict[Size, list[_Waiting]]
    ) -> Iterator[tuple[Size, list[_Waiting]]]:
        """Take in a row, and hand out the rows of a size that has enough of them."""
        known = self._record.edited_before(row.name, row.identity)
        if known is not None:
            self.tally.before += 1
            self._done(EditOutcome(**{**vars(known), "row": number}), is_new=False)
            return
        try:
            request = row.request(self._options.default)
            size = self._checked(request)
        except RowRejected as rejection:
            self._reject(number, row, rejection.reason, rejection.sentence)
            return
        waiting[size].append(_Waiting(number, row, request))
        if len(waiting[size]) >= self._options.batch_size:
            yield size, waiting.pop(size)
        elif sum(map(len, waiting.values())) >= _MOST_WAITING * self._options.batch_size:
            fullest = max(waiting, key=lambda one: len(waiting[one]))
            yield fullest, waiting.pop(fullest)

    def make(self, size: Size, rows: list[_Waiting]) -> None:
        """Edit rows of one size; where they do not fit into memory together, one by one."""
        try:
            images = self._pipeline.edit([one.request for one in rows], **self._options.sampling)
        except torch.OutOfMemoryError:
            if len(rows) > 1:
                for one in rows:
                    self.make(size, [one])
                return
            sentence = f"{size[1]} x {size[0]} pixels do not fit into the memory of the device"
            self._reject(rows[0].number, rows[0].row, "out_of_memory", sentence)
            return
        for one, image in zip(rows, images, strict=True):
            write_image(self._folder / one.row.name, image)
            self._done(
                EditOutcome(
                    one.number, one.row.name, EDITED, one.row.identity, None, None, one.request.seed, *image.shape[:2]
                )
            )

    def _checked(self, request: EditRequest) -> Size:
        """The size of the result, once the prompt is known to be buildable."""
        model, options = self._pipeline.model, self._options
        try:
            for image in request.references:
                checked_reference(image)
        except InputError as error:
            raise RowRejected("image_refused", str(error)) from error
        try:
            model.processor.prompt(request.instruction, len(request.references))
            return request.size(model.size_multiple, options.sampling["max_pixels"])
        except InputError as error:
            raise RowRejected("instruction_refused", str(error)) from error
        except ConfigError as error:
            raise RowRejected("size_refused", str(error)) from error

    def _reject(self, number: int, row: EditRow, reason: str, sentence: str) -> None:
        self._done(EditOutcome(number, row.name, REJECTED, row.identity, reason, sentence))

    def _done(self, outcome: EditOutcome, is_new: bool = True) -> None:
        if is_new:
            self._record.note(outcome)
        if outcome.outcome == EDITED:
            self.tally.edited += 1
        else:
            self.tally.reasons[str(outcome.reason)] += 1
        self.outcomes.append(outcome)
        self._progress(self.tally)


_MOST_WAITING = 4
"""Times the batch size: so many decoded rows of other sizes may wait for their like."""
