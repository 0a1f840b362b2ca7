"""The `lessons` source: edit pairs made on the spot from photographs, with the region that was really edited."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field, field_validator

from pipelines.source import Partition, Source
from pipelines.sources.pair_rows import DECLARED_MASK, PairRows, make_pair
from pipelines.step import StepResult
from pipelines.synthesis.degradations import DEGRADATIONS
from pipelines.synthesis.lessons import AREA_BINS, make_lesson
from pipelines.synthesis.photographs import load_photographs
from pipelines.synthesis.regions import Pixels
from schemas.config import Config
from schemas.errors import ConfigError, InputError, RowRejected
from schemas.images import decode_image, encode_mask
from schemas.record import RecordSchema
from schemas.records import EDIT_PAIR

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class LessonsConfig(Config):
    """Which photographs, and how many pairs of what kind are made of them."""

    count: int = Field(ge=1)
    """Pairs to make. Kinds of edit take turns, and so do `area_bins`."""
    side: int = Field(default=128, ge=32, le=2048)
    """Side of the square images in pixels."""
    seed: int = Field(default=0, ge=0)
    """Decides every pair; another seed gives other pairs."""
    photographs: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of photographs to take (a file's name without suffix); None takes all there are."""
    folder: str | None = None
    """Folder of photographs (.jpg, .png, .webp); None takes those that come inside scikit-image and scikit-learn."""
    degradation: str = "none"
    """What the pair goes through besides the edit, a key of `pipelines.synthesis.degradations.DEGRADATIONS`: with
    `none`, reference and target are equal outside the edit."""
    area_bins: tuple[str, ...] = Field(default=tuple(AREA_BINS), min_length=1)
    """Bins of edited area in the order of their turns, of under_1, 1_to_5, 5_to_20, over_20 (per cent of the image) and
    global. One that stands twice has two turns a round."""
    rows_per_partition: int = Field(default=256, ge=1)
    """Pairs of a partition."""

    @field_validator("area_bins")
    @classmethod
    def _known_bins(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - set(AREA_BINS))
        if unknown:
            raise ValueError(f"'{unknown[0]}' is none of {', '.join(AREA_BINS)}")
        return names

    @field_validator("degradation")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in DEGRADATIONS:
            raise ValueError(f"must be one of {', '.join(DEGRADATIONS)}")
        return name


class Lessons(Source[LessonsConfig]):
    """Pairs of `pipelines.synthesis.lessons` as `EditPair` rows with lossless images, and beside them the true region
    in `declared_mask`, which the step `declared_masks` makes the mask.

    `source_key` is the number of the lesson; `edit_type` its kind.
    """

    name: ClassVar[str] = "lessons"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = LessonsConfig
    provides: ClassVar[RecordSchema | None] = EDIT_PAIR

    def columns(self) -> tuple[str, ...] | None:
        """The record's, and the true region."""
        return (*EDIT_PAIR.fields.names, DECLARED_MASK.name)

    def identity(self) -> dict[str, Any]:
        """As the base has it, with the photographs' content in the place of their folder."""
        identity = super().identity()
        return {**identity, "config": {**identity["config"], "folder": None}, "photographs": self._digest}

    def partitions(self) -> Sequence[Partition]:
        """Ranges of lesson numbers.

        Raises:
            InputError: there is no photograph, or one cannot be read.
            ConfigError: a photograph that was named is not there.
        """
        step, count = self.config.rows_per_partition, self.config.count
        return [
            Partition(f"{place:05d}-{self._digest}", "lessons", start, min(start + step, count))
            for place, start in enumerate(range(0, count, step))
        ]

    def read(self, partition: Partition) -> StepResult:
        """The pairs of one partition; one that repeats another's content is rejected (`repeated_row`)."""
        config = self.config
        rows = PairRows(self, partition.path, "editmill-lessons", (DECLARED_MASK,))
        degrade = DEGRADATIONS[config.degradation]
        photographs = list(self._photographs.values())
        for number in range(partition.start, partition.stop):
            lesson = make_lesson(photographs, config.side, number, config.seed, config.area_bins)
            random = np.random.default_rng([config.seed, number, 1])
            reference, target = degrade(lesson.reference, lesson.target, random)
            pair = make_pair(
                [_png(reference, f"{number:08d}.reference.png")],
                _png(target, f"{number:08d}.target.png"),
                lesson.instruction,
                edit_type=lesson.kind,
                source="editmill-lessons",
                licence=None,
                source_key=str(number),
            )
            rows.keep({**pair, DECLARED_MASK.name: {"bytes": encode_mask(lesson.mask), "path": "mask.png"}})
        return rows.result()

    @cached_property
    def _photographs(self) -> Mapping[str, Pixels]:
        found = _of_folder(Path(self.config.folder)) if self.config.folder else _of_packages()
        if self.config.photographs is None:
            return found
        missing = sorted(set(self.config.photographs) - set(found))
        if missing:
            raise ConfigError(
                f"{self.name}.photographs", missing[0], f"must be among {', '.join(found)}", "Correct the name."
            )
        return {name: found[name] for name in self.config.photographs}

    @cached_property
    def _digest(self) -> str:
        """16 hexadecimal digits of the photographs' pixels and names."""
        digest = hashlib.sha256()
        for name, pixels in self._photographs.items():
            digest.update(f"{name}{pixels.shape}".encode())
            digest.update(pixels.tobytes())
        return digest.hexdigest()[:16]


def _of_packages() -> dict[str, Pixels]:
    return {photograph.name: photograph.pixels for photograph in load_photographs()}


def _of_folder(folder: Path) -> dict[str, Pixels]:
    if not folder.is_dir():
        raise InputError("lessons.folder", str(folder), "is no folder", "Name a folder of photographs.")
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _SUFFIXES:
            try:
                found[path.stem] = decode_image(path.read_bytes())
            except RowRejected as rejection:
                mend = "Take it out of the folder."
                raise InputError("lessons.folder", str(path), rejection.sentence, mend) from rejection
    if not found:
        raise InputError(
            "lessons.folder", str(folder), f"holds no {', '.join(sorted(_SUFFIXES))}", "Name a folder of photographs."
        )
    return found


def _png(pixels: Pixels, name: str) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return {"bytes": stream.getvalue(), "path": name}
