"""The `uniworld_data` source: data in the layout that UniWorld-V1 trains from (LanguageBind/UniWorld-V1 and others).

Layout, as the data set's README has it: a `data.txt` with lines `IMAGE_ROOT,JSON_FILE,NEED_WEIGHT`, the last `true` or
`false`. Each JSON file is a list of objects with `image`, a path or a list of paths below IMAGE_ROOT, and
`conversations`, a list of `{"from": "human" | "gpt", "value": TEXT}`; where an answer is an image, it is the last of
`image`, and the human's texts have a tag `<image>` for each of the others. That the last one is the target, and that
the last human text is the instruction, was verified in published code that loads the layout; which tag the answer
itself has was not, so the numbers of images and of tags decide. Licence MIT, by the README; the collections inside have
their own.

The list mixes edits with text-to-image and understanding samples: those are rejected, with their own reasons.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipelines.local_files import DEFAULT_MAX_BYTES, read_image, resolve_below
from pipelines.source import Partition, Source
from pipelines.sources.json_array import element_ranges, read_elements
from pipelines.sources.pair_rows import PairRows, make_pair
from pipelines.step import StepResult
from schemas.atomic import fingerprint
from schemas.config import Config
from schemas.errors import InputError, RowRejected
from schemas.record import RecordSchema
from schemas.records import EDIT_PAIR

_TAG = "<image>"


class UniWorldDataConfig(Config):
    """Where the list is, and which of its lines."""

    path: str
    """The data.txt."""

    root: str | None = None
    """Folder that the paths in data.txt are relative to; by default its own folder."""

    lines: Literal["all", "weighted", "unweighted"] = "all"
    """Which lines, by their third column: UniWorld gives true to edits whose region is weighed, false to the rest."""

    allow_outside: bool = False
    """Whether an image path may lead out of its line's image root."""

    source: str = "UniWorld-V1"
    """Name of the data set that rows carry."""

    licence: str = "MIT"
    """Licence that rows carry."""

    rows_per_partition: int = Field(default=64, ge=1)
    """List elements of a partition. All their images are in memory together."""

    max_image_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1)
    """Largest image file that is read, in bytes, inclusive."""


@dataclass(frozen=True)
class RootedPartition(Partition):
    """A range of a JSON file (`start`, `stop` in bytes) whose images lie below a root.

    Args:
        root: the image root.
        first: position of the first element in the list.
    """

    root: str
    first: int


class UniWorldData(Source[UniWorldDataConfig]):
    """List elements as pairs; `source_key` is JSON_FILE#POSITION."""

    name: ClassVar[str] = "uniworld_data"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = UniWorldDataConfig
    provides: ClassVar[RecordSchema | None] = EDIT_PAIR

    def identity(self) -> dict[str, Any]:
        """As the base has it, without where the data lies: partitions are named by content."""
        config = self.config.as_json()
        kept = {**config, "path": None, "root": None, "lines": None}
        return {"source": self.name, "version": self.version, "config": kept}

    def partitions(self) -> Sequence[Partition]:
        """Ranges of list elements, in the order of data.txt. Reads the JSON files once, element by element.

        Raises:
            InputError: data.txt or a JSON file cannot be read or is no such file, an image root is no folder, or there
                is no element.
        """
        partitions: list[Partition] = []
        for root, file in self._lines():
            for part in element_ranges(file, self.config.rows_per_partition):
                mark = fingerprint([file.name, root.name, part.start, part.stop, part.digest])
                name = f"{len(partitions):05d}-{mark}"
                partitions.append(RootedPartition(name, str(file), part.start, part.stop, str(root), part.first))
        if not partitions:
            raise InputError("path", self.config.path, "lists no element", "Name a data.txt with samples.")
        return partitions

    def read(self, partition: Partition) -> StepResult:
        """The pairs of one partition; every other element is rejected.

        Raises:
            InputError: the JSON file was changed or removed.
        """
        if not isinstance(partition, RootedPartition):
            raise InputError("partition", partition.name, "is of another source", "Start the run again.")
        rows = PairRows(self, partition.path, self.config.source)
        file = Path(partition.path)
        for number, element in enumerate(read_elements(file, partition.start, partition.stop), partition.first):
            try:
                rows.keep(self._pair(element, Path(partition.root), f"{file.name}#{number}"))
            except RowRejected as rejection:
                rows.reject(f"element {number}", rejection)
        return rows.result()

    def _pair(self, element: object, root: Path, place: str) -> dict[str, Any]:
        if not isinstance(element, dict):
            raise RowRejected("element_not_object", "the element is no object")
        try:
            json.dumps(element, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise RowRejected("text_not_unicode", "a text is no UTF-8, or escapes half a surrogate pair") from error
        names = element.get("image")
        names = [names] if isinstance(names, str) else [] if names is None else names
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise RowRejected("field_type", "image must be a path or a list of paths")
        tags, instruction = _tags_and_instruction(element.get("conversations"))
        if len(names) == tags:
            raise RowRejected("target_missing", f"{len(names)} images, all of them shown: the answer is no image")
        if len(names) != tags + 1:
            raise RowRejected("image_count", f"{len(names)} images for {tags} tags and an answer")
        if tags == 0:
            raise RowRejected("references_missing", "an image is made from text alone")
        images = [self._image(root, name) for name in names]
        return make_pair(
            images[:-1],
            images[-1],
            instruction,
            edit_type=None,
            source=self.config.source,
            licence=self.config.licence,
            source_key=place,
        )

    def _image(self, root: Path, name: str) -> dict[str, Any]:
        path, remembered = resolve_below(root, name, self.config.allow_outside)
        return {"bytes": read_image(path, name, self.config.max_image_bytes), "path": remembered}

    def _lines(self) -> list[tuple[Path, Path]]:
        """(image root, JSON file) of the lines that the config chooses."""
        path = Path(self.config.path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("path", str(path), f"cannot be read ({error})", "Name the data.txt.") from error
        base = path.parent if self.config.root is None else Path(self.config.root)
        chosen: list[tuple[Path, Path]] = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            columns = [column.strip() for column in line.split(",")]
            if len(columns) != 3 or columns[2].lower() not in ("true", "false") or "\0" in line:
                raise InputError(
                    f"{path}, line {number}", line, "must be IMAGE_ROOT,JSON_FILE,true or false", "Correct the line."
                )
            if self.config.lines != "all" and (self.config.lines == "weighted") != (columns[2].lower() == "true"):
                continue
            root = Path(os.path.normpath(base / columns[0]))
            if not root.is_dir():
                raise InputError(f"{path}, line {number}", str(root), "is no folder of images", "Correct the line.")
            chosen.append((root, Path(os.path.normpath(base / columns[1]))))
        return chosen


def _tags_and_instruction(conversations: object) -> tuple[int, str]:
    """How many images are shown before the last answer, and the last human text without the tags."""
    if not isinstance(conversations, list) or not conversations:
        raise RowRejected("conversation_missing", "there is no conversation")
    tags, instruction = 0, ""
    for number, turn in enumerate(conversations):
        speaker, value = (turn.get("from"), turn.get("value")) if isinstance(turn, Mapping) else (None, None)
        if not isinstance(value, str) or not isinstance(speaker, str):
            raise RowRejected("field_type", f"turn {number} of the conversation has no speaker or no text")
        if speaker == "human":
            instruction = value.replace(_TAG, "").strip()
        if speaker == "human" or number < len(conversations) - 1:
            tags += value.count(_TAG)
    return tags, instruction
