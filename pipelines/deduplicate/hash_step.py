"""The step `perceptual_hash`: what deduplication compares of each image, so that it need not look at images again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import cv2
import pyarrow as pa
from pydantic import Field, field_validator

from pipelines.deduplicate.perceptual_hash import perceptual_hash
from pipelines.step import RowStep
from schemas.config import Config
from schemas.errors import RowRejected
from schemas.images import DEFAULT_MAX_PIXELS, HARD_MAX_PIXELS, decode_image

CONTENT_BYTES = 16
"""Of the SHA-256 of an image's bytes, enough to tell any two images apart."""
IMAGE_HASHES = pa.field(
    "image_hashes",
    pa.list_(
        pa.struct(
            [
                pa.field("column", pa.string()),
                pa.field("content", pa.binary(CONTENT_BYTES)),
                pa.field("perceptual", pa.uint64()),
            ]
        )
    ),
)
"""One entry an image, in the order of the columns and within one in the column's own: the column it stands in, the
first bytes of the SHA-256 of its bytes, and its perceptual hash (null where the image is flat)."""


INSTRUCTION_MARK = pa.field("instruction_mark", pa.binary(8))
"""Of an edit pair, equal for instructions that differ only in case, white space or a full stop at the end; else null.
It stands beside the hashes so that finding duplicates reads nothing but what this step wrote."""


class PerceptualHashConfig(Config):
    """Config of the step `perceptual_hash`."""

    columns: tuple[str, ...] = Field(default=("references", "target"), min_length=1)
    """Columns of images to hash, each one image or a list of them; for metadata rows `[image]`."""
    max_pixels: int = Field(default=DEFAULT_MAX_PIXELS, ge=1, le=HARD_MAX_PIXELS)
    """Images with more pixels than this are rejected by their header, never decoded."""

    @field_validator("columns")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must not name a column twice")
        return value


class PerceptualHash(RowStep[PerceptualHashConfig]):
    """Adds `image_hashes` and, of edit pairs, `instruction_mark`.

    Reasons: `image_missing`, and those of `schemas.images`.
    """

    name: ClassVar[str] = "perceptual_hash"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = PerceptualHashConfig
    needs: ClassVar[tuple[str, ...]] = ("references", "target", "instruction")
    adds: ClassVar[pa.Schema] = pa.schema([IMAGE_HASHES, INSTRUCTION_MARK])

    def __init__(self, config: PerceptualHashConfig) -> None:
        super().__init__(config)
        # What this very step needs are the columns its config names.
        self._is_pair = "target" in config.columns
        vars(self)["needs"] = (*config.columns, *(("instruction",) if self._is_pair else ()))

    def setup(self) -> None:
        """Keep OpenCV to one thread: cores are given out once, by whoever runs the steps."""
        cv2.setNumThreads(1)

    def process_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hash the images of one row."""
        hashes = []
        for column, image in _images(row, self.config.columns):
            data = image["bytes"] if image else None
            pixels = decode_image(data, max_pixels=self.config.max_pixels)
            content = hashlib.sha256(data or b"").digest()[:CONTENT_BYTES]
            hashes.append({"column": column, "content": content, "perceptual": perceptual_hash(pixels)})
        mark = instruction_mark(row["instruction"]) if self._is_pair else None
        return {IMAGE_HASHES.name: hashes, INSTRUCTION_MARK.name: mark}


def instruction_mark(instruction: str | None) -> bytes:
    """The value of `instruction_mark` for an instruction."""
    words = " ".join((instruction or "").casefold().split()).rstrip(".")
    return hashlib.sha256(words.encode()).digest()[:8]


def _images(row: Mapping[str, Any], columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    for column in columns:
        value = row[column]
        if not value:
            raise RowRejected("image_missing", f"the column '{column}' holds no image")
        for image in value if isinstance(value, list) else [value]:
            yield column, image
