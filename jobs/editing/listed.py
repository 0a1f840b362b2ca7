"""Edits listed in a JSONL file, one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from jobs.editing.formats import OUTPUT_FORMATS
from jobs.editing.rows import BrokenRow, EditRow, EditRows, Sizing
from pipelines.local_files import DEFAULT_MAX_BYTES, read_image
from schemas.atomic import fingerprint
from schemas.errors import InputError
from schemas.images import decode_image
from unified_model.requests import EditRequest


class EditLine(BaseModel):
    """A line. Keys besides these are not read, so that a list of pairs will do."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    images: list[str] = Field(default=[], validation_alias=AliasChoices("image", "images", "reference", "references"))
    """Reference images in order, relative to the list's folder; a single name will do."""
    instruction: str
    """What to change; without images, what to show."""
    output: str | None = None
    """Name of the edited image in the output folder; the line's number where none is given."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of the starting noise."""
    width: int | None = Field(default=None, ge=16)
    """Width of the result in pixels."""
    height: int | None = Field(default=None, ge=16)
    """Height of the result in pixels."""

    @field_validator("images", mode="before")
    @classmethod
    def _one_or_several(cls, images: object) -> object:
        return [images] if isinstance(images, str) else images

    @field_validator("output")
    @classmethod
    def _below_the_folder(cls, output: str | None) -> str | None:
        if output is None:
            return None
        path = PurePosixPath(output)
        if path.is_absolute() or ".." in path.parts or path.suffix.lower() not in OUTPUT_FORMATS:
            raise ValueError(f"must be a name below the output folder that ends in {', '.join(OUTPUT_FORMATS)}")
        return str(path)


@dataclass(frozen=True)
class ListedRow(EditRow):
    """A line that was understood."""

    name: str
    identity: str
    line: EditLine
    folder: Path

    def request(self, default: Sizing) -> EditRequest:
        """Reads the image files."""
        line = self.line
        images = [decode_image(read_image(self.folder / name, name, DEFAULT_MAX_BYTES)) for name in line.images]
        return EditRequest(
            line.instruction,
            images,
            default.seed if line.seed is None else line.seed,
            line.height or default.height,
            line.width or default.width,
        )


class ListedRows(EditRows):
    """The lines of a file; blank ones are no rows.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("--batch", str(path), f"cannot be read ({error})", "Check the path.") from error
        self._folder = path.absolute().parent
        self._lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[EditRow]:
        taken: set[str] = set()
        for number, text in self._lines:
            row = self._row(number, text)
            if row.name in taken:
                sentence = f"line {number} writes to {row.name}, as a line before it does"
                row = BrokenRow(f"line {number}", fingerprint(text), "output_repeated", sentence)
            taken.add(row.name)
            yield row

    def _row(self, number: int, text: str) -> EditRow:
        own = f"{number:06d}.png"
        try:
            values = json.loads(text)
            line = EditLine.model_validate(values)
        except ValidationError as error:
            found = error.errors()[0]
            where = ".".join(str(part) for part in found["loc"]) or "the line"
            return BrokenRow(own, fingerprint(text), "line_invalid", f"line {number}, {where}: {found['msg']}")
        except ValueError as error:
            return BrokenRow(own, fingerprint(text), "line_no_json", f"line {number} is no JSON ({error})")
        files = [_state_of(self._folder / name) for name in line.images]
        return ListedRow(line.output or own, fingerprint([line.model_dump(), files]), line, self._folder)


def _state_of(path: Path) -> list[int]:
    """What tells a file from the one that stood there before, without reading it."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return []
    return [found.st_size, found.st_mtime_ns]
