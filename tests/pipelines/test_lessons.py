"""Made pairs: what is edited is known, told by the instruction, and spread over the bins of edited area."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from pipelines.masks.declared import DeclaredMasks, DeclaredMasksConfig
from pipelines.sources.lessons import Lessons, LessonsConfig
from pipelines.sources.pair_rows import DECLARED_MASK
from pipelines.synthesis.lessons import AREA_BINS, KINDS, PAINTS, make_lesson
from schemas.errors import ConfigError, InputError
from schemas.images import decode_image, decode_mask, encode_mask

PHOTOGRAPHS = [np.random.default_rng(number).integers(0, 256, (90, 140, 3), dtype=np.uint8) for number in range(3)]


@given(number=st.integers(0, 500), seed=st.integers(0, 3))
def test_a_lesson_changes_what_its_mask_says_and_nothing_else(number, seed):
    lesson = make_lesson(PHOTOGRAPHS, 96, number, seed)
    changed = (lesson.reference != lesson.target).any(axis=2)
    assert lesson.mask.any() and not changed[~lesson.mask].any()
    if lesson.kind != "global":
        # Paint may have the ground's colour here and there.
        assert changed[lesson.mask].mean() > (0.3 if lesson.kind == "texture" else 0.9)
    again = make_lesson(PHOTOGRAPHS, 96, number, seed)
    assert np.array_equal(lesson.target, again.target) and lesson.instruction == again.instruction


def test_bins_and_kinds_are_spread_evenly():
    lessons = [make_lesson(PHOTOGRAPHS, 128, number, 0) for number in range(250)]
    assert Counter(lesson.area_bin for lesson in lessons) == dict.fromkeys(AREA_BINS, 50)
    assert {lesson.kind for lesson in lessons} == set(KINDS)
    upper = {"under_1": 0.01, "1_to_5": 0.05, "5_to_20": 0.2, "over_20": 0.9, "global": 1.0}
    lower = {"under_1": 0.0, "1_to_5": 0.01, "5_to_20": 0.05, "over_20": 0.2, "global": 1.0}
    for lesson in lessons:
        assert lower[lesson.area_bin] <= lesson.mask.mean() <= upper[lesson.area_bin]


def test_bins_take_the_turns_they_are_given_and_every_kind_falls_to_each(tmp_path: Path):
    turns = ("under_1", "1_to_5", "under_1", "global")
    lessons = [make_lesson(PHOTOGRAPHS, 64, number, 0, turns) for number in range(80)]
    assert Counter(lesson.area_bin for lesson in lessons) == {"under_1": 40, "1_to_5": 20, "global": 20}
    for place in (0, 1, 2):
        assert set(Counter(lesson.kind for lesson in lessons[place::4]).values()) == {4}
    for number, pixels in enumerate(PHOTOGRAPHS):
        Image.fromarray(pixels).save(tmp_path / f"photo{number}.png")
    source = Lessons(LessonsConfig(count=8, side=64, folder=str(tmp_path), area_bins=turns))
    table = source.read(source.partitions()[0]).kept
    assert [row["bytes"] for row in table[DECLARED_MASK.name].to_pylist()] == [encode_mask(x.mask) for x in lessons[:8]]
    with pytest.raises(ValidationError, match="'1_to_6' is none of under_1"):
        LessonsConfig(count=1, area_bins=("under_1", "1_to_6"))
    with pytest.raises(ValueError, match="a bin"):
        make_lesson(PHOTOGRAPHS, 64, 0, 0, ())
    with pytest.raises(KeyError, match="1_to_6"):
        make_lesson(PHOTOGRAPHS, 64, 0, 0, ("1_to_6",))


def test_only_the_instruction_tells_what_to_do():
    lessons = [make_lesson(PHOTOGRAPHS, 64, number, 0) for number in range(300)]
    words = {word for lesson in lessons for word in lesson.instruction.split()}
    assert set(PAINTS) <= words and len(words) < 60
    assert len({lesson.instruction for lesson in lessons}) > 100


def test_the_source_gives_pairs_with_their_region_and_the_step_makes_it_the_mask(tmp_path: Path):
    for number, pixels in enumerate(PHOTOGRAPHS):
        Image.fromarray(pixels).save(tmp_path / f"photo{number}.png")
    config = LessonsConfig(count=20, side=64, folder=str(tmp_path), rows_per_partition=8)
    source = Lessons(config)
    parts = source.partitions()
    assert [(part.start, part.stop) for part in parts] == [(0, 8), (8, 16), (16, 20)]
    table = pa.concat_tables([source.read(part).kept for part in parts])
    assert table.num_rows == 20
    assert {Lessons(config.model_copy(update={"rows_per_partition": 20})).read(parts[0]).kept.num_rows} == {8}
    rows = DeclaredMasks(DeclaredMasksConfig()).process(table).kept.to_pylist()
    assert len(rows) == 20
    for row in rows:
        lesson = make_lesson(PHOTOGRAPHS, 64, int(row["source_key"]), 0)
        assert np.array_equal(decode_mask(row["mask"]["bytes"]), lesson.mask)
        assert np.array_equal(decode_image(row["target"]["bytes"]), lesson.target)
        assert row["edited_fraction"] == pytest.approx(lesson.mask.mean())
        assert row["mask_status"] == ("global" if lesson.kind == "global" else "ok")


def test_masks_that_are_none_are_rejected_with_a_reason():
    target = {"bytes": _png(PHOTOGRAPHS[0]), "path": "t.png"}
    empty = encode_mask(np.zeros((90, 140), np.bool_))
    small = encode_mask(np.ones((9, 14), np.bool_))
    masks = [None, {"bytes": empty, "path": "m.png"}, {"bytes": small, "path": "m.png"}, {"bytes": b"no", "path": "m"}]
    table = pa.table(
        {"key": [f"{number:032x}" for number in range(4)], "target": [target] * 4},
    ).append_column(DECLARED_MASK, pa.array(masks, DECLARED_MASK.type))
    result = DeclaredMasks(DeclaredMasksConfig()).process(table)
    assert result.kept.num_rows == 0
    reasons = result.rejected["reason"].to_pylist()
    assert reasons[:3] == ["mask_missing", "unchanged", "mask_size"] and reasons[3].startswith("image_")


def test_missing_photographs_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="holds no"):
        Lessons(LessonsConfig(count=1, folder=str(tmp_path))).partitions()
    Image.fromarray(PHOTOGRAPHS[0]).save(tmp_path / "one.png")
    with pytest.raises(ConfigError, match="must be among one"):
        Lessons(LessonsConfig(count=1, folder=str(tmp_path), photographs=("two",))).partitions()


def _png(pixels: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
