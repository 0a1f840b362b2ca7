"""What every source of edit pairs shares: a pair as a row, and the rows of a partition collected, good and bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipelines.source import Source, reject_repeats
from pipelines.sources.place_key import place_key
from pipelines.step import StepResult
from schemas.errors import RowRejected
from schemas.keys import pair_key
from schemas.outcomes import rejections
from schemas.record import RecordSchema
from schemas.records import EDIT_PAIR, IMAGE_TYPE

DECLARED_MASK = pa.field("declared_mask", IMAGE_TYPE)
"""Column beside the record's, on request: the mask that the collection ships, as it is. Only the step
`declared_masks` computes with it."""

Image = Mapping[str, Any]
"""An encoded image as a `struct<bytes, path>` value."""


def make_pair(
    references: Sequence[Image | None], target: Image | None, instruction: object, **more: str | None
) -> dict[str, Any]:
    """A pair as a row of `EditPair`, with the key that its content gives.

    Args:
        references, target: encoded images; never decoded here.
        more: `edit_type`, `source`, `licence`, `source_key`.

    Raises:
        RowRejected: `references_missing`, `image_empty`, `instruction_missing`, `text_not_unicode`.
    """
    if not references:
        raise RowRejected("references_missing", "there is no reference image")
    good = [_with_bytes(image, f"reference {number}") for number, image in enumerate(references)]
    after = _with_bytes(target, "target")
    if not isinstance(instruction, str) or not instruction.strip():
        raise RowRejected("instruction_missing", "the instruction is missing or blank")
    try:
        key = pair_key([image["bytes"] for image in good], after["bytes"], instruction)
    except UnicodeEncodeError as error:
        raise RowRejected(
            "text_not_unicode", "the instruction holds half a surrogate pair, which is no text"
        ) from error
    return {"key": key, "references": good, "target": after, "instruction": instruction, **more}


class PairRows:
    """The rows of one partition, collected one by one.

    Args:
        source: what reads them.
        path: the file they stand in.
        dataset: what rejected rows are said to come from.
        extra: columns beside the record's.
    """

    def __init__(
        self,
        source: Source[Any],
        path: str,
        dataset: str | None,
        extra: Sequence[pa.Field] = (),
        record: RecordSchema = EDIT_PAIR,
    ) -> None:
        self._source, self._path, self._dataset = source, path, dataset
        self._schema = pa.schema([*record.arrow, *extra], metadata=record.arrow.metadata)
        self._rows: list[Mapping[str, Any]] = []
        self._refused: list[tuple[str, str, str]] = []

    def keep(self, row: Mapping[str, Any]) -> None:
        """Add a good row."""
        self._rows.append(row)

    def reject(self, place: str, rejection: RowRejected, key: str | None = None) -> None:
        """Add a row that makes no pair.

        Args:
            place: where it stands in the file, for the sentence and for a key made from the place.
            key: the row's own key, where it has one.
        """
        name = self._path.rpartition("/")[2]
        # What is quoted of damaged data may be no Unicode.
        sentence = f"{name}, {place}: {rejection.sentence}".encode("utf-8", "replace").decode()
        self._refused.append((key or place_key(name, place), rejection.reason, sentence))

    def result(self) -> StepResult:
        """The good rows in order, the first of each key; all others rejected."""
        unique = reject_repeats(self._source, pa.Table.from_pylist(self._rows, schema=self._schema))
        keys, reasons, sentences = zip(*self._refused, strict=True) if self._refused else ((), (), ())
        datasets = [self._dataset] * len(keys)
        refused = rejections(self._source.name, self._source.version, keys, reasons, sentences, datasets)
        return StepResult(unique.kept, pa.concat_tables([refused, unique.rejected]))


def _with_bytes(image: Image | None, what: str) -> Image:
    if image is None or not image["bytes"]:
        only = f"only the path '{image['path']}'" if image is not None and image.get("path") else "no bytes"
        raise RowRejected("image_empty", f"the {what} has {only}")
    return image
