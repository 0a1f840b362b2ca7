"""The `edit_pairs_jsonl` source: before/after pairs listed in JSONL files, with their images in files beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, field_validator

from pipelines.local_files import DEFAULT_MAX_BYTES, read_image, resolve_below
from pipelines.source import Partition, Source, reject_repeats
from pipelines.sources.jsonl_lines import Line, jsonl_files, line_number, line_partitions, read_lines
from pipelines.sources.place_key import place_key
from pipelines.step import StepResult
from schemas.config import Config
from schemas.errors import InputError, RowRejected, SchemaError
from schemas.keys import pair_key
from schemas.outcomes import rejections
from schemas.record import RecordSchema
from schemas.records import EDIT_PAIR

FIELDS = ("references", "target", "instruction", "edit_type", "source", "licence", "source_key")
_OTHER_NAMES = {"references": ("reference",), "licence": ("license",)}
_LOOK_AT = 20


class EditPairsJsonlConfig(Config):
    """Where the pairs are listed and how."""

    path: str
    """A .jsonl file, or a folder with some: one JSON object a line."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Field -> the name it has in the file, where that differs: `{references: src, target: tgt}`. Fields: references,
    target, instruction, edit_type, source, licence, source_key. `reference` and `license` are understood by
    themselves."""

    image_root: str | None = None
    """Folder that image paths are relative to; by default the folder of the .jsonl file."""

    allow_outside: bool = False
    """Whether an image path may lead out of that folder."""

    source: str | None = None
    """Name of the data set, for lines that do not say."""

    licence: str | None = None
    """Licence of the images, for lines that do not say."""

    needs_instruction: bool = True
    """Whether a line without an instruction is rejected; if not, its instruction is empty."""

    rows_per_partition: int = Field(default=64, ge=1)
    """Lines of a partition. All their images are in memory together."""

    max_image_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1)
    """Largest image file that is read, in bytes, inclusive."""

    @field_validator("columns")
    @classmethod
    def _known_fields(cls, columns: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(columns) - set(FIELDS))
        if unknown:
            raise ValueError(f"'{unknown[0]}' is no field; fields are {', '.join(FIELDS)}")
        return columns


class EditPairsJsonl(Source[EditPairsJsonlConfig]):
    """Lines as `EditPair` rows. Image files are read as they are, never decoded.

    A line that makes no pair is rejected under a key made from its file's name and its place; blank lines are no rows.
    The `source_key` of a line that gives none is FILE@BYTE, the file's name and the bytes before the line.
    """

    name: ClassVar[str] = "edit_pairs_jsonl"
    version: ClassVar[int] = 2
    config_class: ClassVar[type[Config]] = EditPairsJsonlConfig
    provides: ClassVar[RecordSchema | None] = EDIT_PAIR

    def identity(self) -> dict[str, Any]:
        """As the base has it, without where the data lies: copied elsewhere it gives the same rows."""
        config = self.config.as_json()
        return {"source": self.name, "version": self.version, "config": {**config, "path": None}}

    def partitions(self) -> Sequence[Partition]:
        """Ranges of lines, in the order of the files.

        Raises:
            InputError: the path is missing or holds no line; the image root is no folder.
            SchemaError: none of the first lines has the fields that a pair must have.
        """
        root = self.config.image_root
        if root is not None and not Path(root).is_dir():
            raise InputError("image_root", root, "is no folder", "Name the folder of the images.")
        partitions = line_partitions(jsonl_files(Path(self.config.path)), self.config.rows_per_partition)
        self._look_at_fields(partitions[0])
        return partitions

    def read(self, partition: Partition) -> StepResult:
        """The pairs of one partition; every other line is rejected.

        Raises:
            InputError: the file cannot be read any more.
        """
        rows: list[dict[str, Any]] = []
        refused: list[tuple[str, str, str]] = []
        path = Path(partition.path)
        for line in read_lines(partition):
            try:
                rows.append(self._pair(line, path))
            except RowRejected as rejection:
                number = line_number(path, line.offset)
                sentence = f"{path.name}, line {number}: {rejection.sentence}"
                refused.append((place_key(path.name, f"line {number}"), rejection.reason, sentence))
        table = pa.Table.from_pylist(rows, schema=EDIT_PAIR.arrow)
        unique = reject_repeats(self, table)
        keys, reasons, sentences = zip(*refused, strict=True) if refused else ((), (), ())
        sources = [self.config.source] * len(keys)
        unreadable = rejections(self.name, self.version, keys, reasons, sentences, sources)
        return StepResult(unique.kept, pa.concat_tables([unreadable, unique.rejected]))

    def _pair(self, line: Line, path: Path) -> dict[str, Any]:
        values = _object(line)
        names = self._value(values, "references")
        names = [names] if isinstance(names, str) else names
        if names is None:
            raise RowRejected("field_missing", "'references' is missing or empty")
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise RowRejected("field_type", "references must be a path or a list of paths")
        target_name = self._value(values, "target")
        if not names or not target_name:
            raise RowRejected("field_missing", f"'{'target' if names else 'references'}' is missing or empty")
        if not isinstance(target_name, str):
            raise RowRejected("field_type", "target must be a path")
        instruction = self._text(values, "instruction") or ""
        if self.config.needs_instruction and not instruction.strip():
            raise RowRejected("instruction_missing", "the instruction is missing or blank")
        references = [self._image(name, path) for name in names]
        target = self._image(target_name, path)
        return {
            "key": pair_key([image["bytes"] for image in references], target["bytes"], instruction),
            "references": references,
            "target": target,
            "instruction": instruction,
            "edit_type": self._text(values, "edit_type"),
            "source": self._text(values, "source") or self.config.source,
            "licence": self._text(values, "licence") or self.config.licence,
            "source_key": self._text(values, "source_key") or f"{path.name}@{line.offset}",
        }

    def _image(self, name: str, path: Path) -> dict[str, Any]:
        root = path.parent if self.config.image_root is None else Path(self.config.image_root)
        file, remembered = resolve_below(root, name, self.config.allow_outside)
        return {"bytes": read_image(file, name, self.config.max_image_bytes), "path": remembered}

    def _value(self, values: Mapping[str, Any], field: str) -> Any:
        mapped = self.config.columns.get(field)
        spellings = (mapped,) if mapped is not None else (field, *_OTHER_NAMES.get(field, ()))
        return next((values[name] for name in spellings if values.get(name) is not None), None)

    def _text(self, values: Mapping[str, Any], field: str) -> str | None:
        value = self._value(values, field)
        if field == "source_key" and isinstance(value, int):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise RowRejected("field_type", f"{field} must be a text, not {type(value).__name__}")
        return value

    def _look_at_fields(self, partition: Partition) -> None:
        objects = []
        for line in islice(read_lines(partition), _LOOK_AT):
            try:
                objects.append(_object(line))
            except RowRejected:
                continue
        needed = ("references", "target", "instruction") if self.config.needs_instruction else ("references", "target")
        for field in needed:
            if objects and all(self._value(values, field) is None for values in objects):
                raise SchemaError(
                    f"{partition.path}: '{field}'",
                    sorted({name for values in objects for name in values}),
                    f"none of the first {len(objects)} lines has it",
                    f"Say under which name it stands: columns: {{{field}: NAME}}.",
                )


def _object(line: Line) -> dict[str, Any]:
    try:
        values = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        raise RowRejected("line_not_json", f"the line is no JSON ({error})") from error
    if not isinstance(values, dict):
        raise RowRejected("line_not_object", "the line is JSON, but no object")
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RowRejected("text_not_unicode", "the line escapes half a surrogate pair, which is no text") from error
    return values
