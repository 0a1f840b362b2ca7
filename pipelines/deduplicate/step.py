"""The step `deduplicate`: of rows that are copies or near copies of each other, one stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.dataset_step import DatasetStep
from pipelines.deduplicate.hamming import I64, MAX_RADIUS
from pipelines.deduplicate.hash_step import IMAGE_HASHES, INSTRUCTION_MARK
from pipelines.deduplicate.keep_first import keep_first
from pipelines.deduplicate.survey import (
    Images,
    codes_of,
    image_points,
    images_of,
    row_points,
    rows_with_flat_images,
)
from pipelines.step import StepResult
from schemas.config import Config
from schemas.outcomes import rejections

DECISION = pa.schema([pa.field("key", pa.string()), pa.field("kept", pa.string()), pa.field("distance", pa.uint8())])
"""One row a duplicate, by key: the key that stays for it, and how far they are apart in bits; null where every image
compared is the same file."""


class DeduplicateConfig(Config):
    """Config of the step `deduplicate`."""

    match: Literal["edit", "pair", "target", "any_image"] = "edit"
    """When a row is another's duplicate. `edit`: every image is near the other's, one by one, and the instruction is
    the same but for case and white space; edits of one picture that differ in a detail have near hashes, and stay.
    `pair`: every image is near, whatever the instruction. `target`: the targets are near. `any_image`: any image of the
    one is near any image of the other, references and targets alike."""
    radius: int = Field(default=4, ge=0, le=MAX_RADIUS)
    """Largest Hamming distance of two perceptual hashes (64 bits) that counts as near, inclusive."""
    prefer_score: str | None = Field(default=None, min_length=1)
    """Of duplicates stays the one with the highest `judge_scores` of this name, rows without it last; among equals, and
    by default, the one with the smallest key."""


class Deduplicate(DatasetStep[DeduplicateConfig]):
    """Rejects duplicates over the whole data set: `exact_duplicate` (every image compared is the same file) and
    `near_duplicate`, each with the key that stays and the distance. No two rows that stay are duplicates.

    Flat images have no perceptual hash: rows with one are compared by content, and with `any_image` not by that image.
    Rows that stand twice under one key are left to packing, which takes the first.
    """

    name: ClassVar[str] = "deduplicate"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = DeduplicateConfig
    needs: ClassVar[tuple[str, ...]] = ("image_hashes",)
    adds: ClassVar[pa.Schema] = pa.schema([])

    def __init__(self, config: DeduplicateConfig) -> None:
        super().__init__(config)
        # What this very step needs is what its config compares and prefers.
        instruction = (INSTRUCTION_MARK.name,) if config.match == "edit" else ()
        scores = () if config.prefer_score is None else ("judge_scores",)
        vars(self)["needs"] = (IMAGE_HASHES.name, *instruction, *scores)

    def survey(self, table: pa.Table) -> pa.Table:
        """Key, hashes, a mark of the instruction, the preferred score."""
        columns = {name: table[name] for name in ("key", *self.needs) if name != "judge_scores"}
        if self.config.prefer_score is not None:
            scores = [dict(scores or ()).get(self.config.prefer_score) for scores in table["judge_scores"].to_pylist()]
            columns["score"] = pa.array(scores, pa.float32())
        return pa.table(columns)

    def decide(self, surveys: pa.Table) -> pa.Table:
        """A row of `DECISION` for each duplicate."""
        order = [("key", "ascending")]
        if "score" in surveys.column_names:
            order.insert(0, ("score", "descending"))
        surveys = surveys.take(pc.sort_indices(surveys, sort_keys=order))
        surveys = _first_of_each_key(surveys)
        images = images_of(surveys[IMAGE_HASHES.name], only="target" if self.config.match == "target" else None)
        if self.config.match == "any_image":
            verdicts = keep_first(image_points(images), len(images), self.config.radius)
        else:
            is_edit = self.config.match == "edit"
            groups = codes_of(surveys[INSTRUCTION_MARK.name]) if is_edit else np.zeros(len(images), np.int64)
            verdicts = _by_rows(images, groups, self.config.radius)
        dropped = np.flatnonzero(verdicts >= 0)
        kept, distance = verdicts[dropped] // 256, verdicts[dropped] % 256
        same = np.array(
            [self._is_same(images, int(row), int(other)) for row, other in zip(dropped, kept, strict=True)], np.bool_
        )
        decision = pa.table(
            {
                "key": surveys["key"].take(pa.array(dropped)),
                "kept": surveys["key"].take(pa.array(kept)),
                "distance": pa.array(distance, pa.uint8(), mask=same),
            },
            schema=DECISION,
        )
        return decision.sort_by("key")

    def part(self, table: pa.Table, decision: pa.Table) -> StepResult:
        """Reject the duplicates of one batch."""
        places = pc.index_in(table["key"], value_set=decision["key"].combine_chunks())
        found = decision.take(places.drop_null()).to_pylist()
        outcomes = rejections(
            self.name,
            self.version,
            [row["key"] for row in found],
            ["exact_duplicate" if row["distance"] is None else "near_duplicate" for row in found],
            [self._sentence(row) for row in found],
            evidence=[
                {"kept": row["kept"], "distance": row["distance"] or 0, "match": self.config.match} for row in found
            ],
        )
        return StepResult(table.filter(places.is_null()) if found else table, outcomes)

    def _is_same(self, images: Images, row: int, other: int) -> bool:
        """Whether the images by which a row is the duplicate of another are the same files."""
        if self.config.match == "any_image":
            return not set(images.contents_of_each(row)).isdisjoint(images.contents_of_each(other))
        return images.contents(row) == images.contents(other)

    def _sentence(self, row: Mapping[str, Any]) -> str:
        compared = {"target": "the target", "any_image": "an image"}.get(self.config.match, "every image")
        if row["distance"] is None:
            return f"{compared} is the same file as of {row['kept']}, which is kept"
        return f"{compared} is within {row['distance']} of 64 bits of that of {row['kept']}, which is kept"


def _by_rows(images: Images, groups: I64, radius: int) -> I64:
    """What becomes of each row, where rows are compared as a whole: first by content, what is left by look."""
    codes = images.content_codes()
    _, first, kind = np.unique(codes * (groups.max(initial=0) + 1) + groups, return_index=True, return_inverse=True)
    same_as = first[kind]
    is_first = same_as == np.arange(len(images))
    left = np.flatnonzero(is_first & ~rows_with_flat_images(images))
    verdicts = keep_first(row_points(images, groups, left), len(images), radius)
    # A copy shares the verdict of the first of its kind, or is dropped for it.
    return np.where(is_first | (verdicts[same_as] >= 0), verdicts[same_as], same_as * 256)


def _first_of_each_key(table: pa.Table) -> pa.Table:
    positions = pa.array(np.arange(table.num_rows))
    firsts = pa.table({"key": table["key"], "position": positions}).group_by("key").aggregate([("position", "min")])
    return table.take(pa.array(np.sort(firsts["position_min"].to_numpy())))
