"""Duplicates: found exactly within the radius, dropped for one that stays, and independent of order and cuts."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.deduplicate.hamming import MAX_RADIUS, Points, choose_bands, distances
from pipelines.deduplicate.hash_step import (
    IMAGE_HASHES,
    INSTRUCTION_MARK,
    PerceptualHash,
    PerceptualHashConfig,
    instruction_mark,
)
from pipelines.deduplicate.keep_first import keep_first
from pipelines.deduplicate.perceptual_hash import perceptual_hash
from pipelines.deduplicate.step import Deduplicate, DeduplicateConfig
from pipelines.step import StepResult
from pipelines.synthesis.photographs import load_photographs
from schemas.config import parse_config
from schemas.errors import ContractError, SchemaError
from schemas.outcomes import OUTCOME
from schemas.records import EDIT_SAMPLE, IMAGE_TYPE


def scene(seed: int, side: int = 128) -> npt.NDArray[np.uint8]:
    """Something with structure: smooth blobs of colour."""
    noise = np.random.default_rng(seed).normal(0, 1, (8, 8, 3)).astype(np.float32)
    large = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(128 + 50 * large, 0, 255), np.uint8)


def encoded(image: npt.NDArray[np.uint8], **save: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, **{"format": "PNG", **save})
    return stream.getvalue()


def hash_of(image: npt.NDArray[np.uint8]) -> int:
    value = perceptual_hash(image)
    assert value is not None
    return value


def test_copies_are_near_and_strangers_are_far() -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    originals = [photograph.pixels for photograph in load_photographs()]
    for image in originals:
        smaller = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
        recompressed = np.asarray(Image.open(io.BytesIO(encoded(image, format="JPEG", quality=40))), np.uint8)
        brighter = np.asarray(np.clip(image.astype(np.int16) + 12, 0, 255), np.uint8)
        for copy in (smaller, recompressed, brighter):
            assert (hash_of(image) ^ hash_of(copy)).bit_count() <= 4
        assert hash_of(image).bit_count() == 32, "the median parts the bits in halves"
        assert (hash_of(image) ^ hash_of(np.ascontiguousarray(image[:, ::-1]))).bit_count() > 10
    apart = [(hash_of(a) ^ hash_of(b)).bit_count() for i, a in enumerate(originals) for b in originals[:i]]
    assert min(apart) > 10


@pytest.mark.parametrize("level", [0, 127, 255])
def test_flat_images_have_no_hash(level: int) -> None:
    assert perceptual_hash(np.full((64, 64, 3), level, np.uint8)) is None


def by_all_with_all(points: Points, rows: int, radius: int) -> list[int]:
    """`keep_first`, the slow way: row after row, against every row that stays."""
    images: dict[int, list[int]] = {row: [] for row in range(rows)}
    for place, owner in enumerate(points.owner):
        images[int(owner)].append(place)
    verdicts: list[int] = []
    for row in range(rows):
        found = [
            kept * 256 + apart
            for kept in range(row)
            if verdicts[kept] < 0
            for a in images[kept]
            for b in images[row]
            if points.group[a] == points.group[b]
            and (apart := int(distances(points.hashes[a], points.hashes[b]).max())) <= radius
        ]
        verdicts.append(min(found, default=-1))
    return verdicts


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, MAX_RADIUS), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_no_neighbour_is_missed_at_any_radius(seed: int, radius: int, images: int, width: int, one_group: bool) -> None:
    draw = np.random.default_rng(seed)
    rows = 160
    owner = np.sort(draw.integers(0, rows, rows * images))
    # A few clusters with every number of flipped bits, so that all distances around the radius occur.
    centres = draw.integers(0, 2**64, (12, width), dtype=np.uint64)
    hashes = centres[draw.integers(0, 12, len(owner))]
    for _ in range(12):
        flip = np.uint64(1) << draw.integers(0, 64, hashes.shape).astype(np.uint64)
        hashes = np.where(draw.random(hashes.shape) < 0.5, hashes ^ flip, hashes)
    group = np.asarray(draw.integers(0, 1 if one_group else 3, len(owner)), np.uint64)
    points = Points(hashes, group, owner)
    assert keep_first(points, rows, radius).tolist() == by_all_with_all(points, rows, radius)


def test_bands_cover_all_bits_and_leave_no_gap() -> None:
    for radius in range(MAX_RADIUS + 1):
        for count in (10, 10**4, 10**6, 10**8):
            bands = choose_bands(radius, count)
            assert [band.shift for band in bands] == np.cumsum([0, *(band.width for band in bands)])[:-1].tolist()
            assert sum(band.width for band in bands) == 64
            slack = radius // len(bands)
            assert all(len(band.probes) == len(set(band.probes.tolist())) for band in bands)
            assert all(max(int(probe).bit_count() for probe in band.probes) == slack for band in bands)


def row(key: int, *hashes: int | None, instruction: str = "make it blue", **values: Any) -> dict[str, Any]:
    """A row with the given hashes; images of one hash are one file, unless `files` names others."""
    files = values.pop("files", hashes)
    columns = ["references"] * (len(hashes) - 1) + ["target"]
    entries = [
        {"column": column, "content": hashlib.sha256(repr(file).encode()).digest()[:16], "perceptual": value}
        for column, value, file in zip(columns, hashes, files, strict=True)
    ]
    return {
        "key": f"{key:032x}",
        "image_hashes": entries,
        "instruction_mark": instruction_mark(instruction),
        "judge_scores": None,
        **values,
    }


SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        IMAGE_HASHES,
        INSTRUCTION_MARK,
        EDIT_SAMPLE.fields.field("judge_scores"),
    ]
)


def deduplicate(rows: list[dict[str, Any]], cuts: int = 1, **values: Any) -> StepResult:
    step = Deduplicate(parse_config(DeduplicateConfig, values, "deduplicate"))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    step_rows = -(-len(rows) // cuts)
    tables = [table.slice(start, step_rows) for start in range(0, len(rows), step_rows)]
    decision = step.decide(pa.concat_tables([step.survey(one) for one in tables]))
    step = pickle.loads(pickle.dumps(step.decided(Decision(decision))))
    results = [step(one) for one in tables]
    kept = pa.concat_tables([result.kept for result in results])
    return StepResult(kept, pa.concat_tables([result.rejected for result in results]))


class Decision:
    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __call__(self) -> pa.Table:
        return self.table


def verdicts(result: StepResult) -> dict[int, tuple[str, int, int]]:
    OUTCOME.check(result.rejected)
    found = {}
    for outcome in result.rejected.to_pylist():
        evidence = json.loads(outcome["evidence"])
        assert evidence["kept"] in outcome["sentence"]
        found[int(outcome["key"], 16)] = (outcome["reason"], int(evidence["kept"], 16), evidence["distance"])
    return found


A, B = 0x0123456789ABCDEF, 0xFEDCBA9876543210


def test_pairs_that_are_near_in_every_image_and_say_the_same_are_duplicates() -> None:
    rows = [
        row(5, A, B),
        row(3, A, B, instruction="  MAKE it   blue."),
        row(9, A ^ 0b11, B ^ 0b111, files=("a'", "b'")),
        row(2, A, B, instruction="make it red"),
        row(7, A, B ^ 0b11111),
        row(1, B, A),
        row(8, A, A, B),
        row(4, A ^ 0b1, B, files=("a''", B)),
    ]
    assert verdicts(deduplicate(rows)) == {
        5: ("exact_duplicate", 3, 0),
        9: ("near_duplicate", 3, 3),
        4: ("near_duplicate", 3, 1),
    }
    assert set(verdicts(deduplicate(rows, match="pair"))) == {3, 5, 9, 4}, "2 is the smallest key of its kind"
    assert set(verdicts(deduplicate(rows, match="target"))) == {3, 4, 5, 8, 9}
    assert set(verdicts(deduplicate(rows, match="any_image"))) == {2, 3, 4, 5, 7, 8, 9}
    assert verdicts(deduplicate(rows, radius=2))[9] == ("near_duplicate", 7, 2)


def test_a_chain_of_near_rows_is_not_dropped_for_its_first() -> None:
    rows = [row(number, A ^ ((1 << 3 * number) - 1)) for number in range(6)]
    assert verdicts(deduplicate(rows, radius=4)) == {
        1: ("near_duplicate", 0, 3),
        3: ("near_duplicate", 2, 3),
        5: ("near_duplicate", 4, 3),
    }


def test_the_highest_score_stays_and_every_other_names_a_row_that_stays() -> None:
    rows = [
        row(1, A, B),
        row(2, A, B, judge_scores=[("naturalness", 5.0)]),
        row(3, A ^ 1, B, judge_scores=[("naturalness", 4.0)]),
        row(4, A ^ 1, B, judge_scores=[("naturalness", 4.0)]),
    ]
    assert {key: kept for key, (_, kept, _) in verdicts(deduplicate(rows)).items()} == {2: 1, 3: 1, 4: 1}
    best = verdicts(deduplicate(rows, prefer_score="naturalness"))
    assert best == {1: ("exact_duplicate", 2, 0), 3: ("near_duplicate", 2, 1), 4: ("near_duplicate", 2, 1)}


def test_flat_images_are_compared_by_content_and_never_by_chance() -> None:
    rows = [
        row(1, None, B, files=("white", B)),
        row(2, None, B, files=("black", B)),
        row(3, None, B, files=("white", B)),
    ]
    assert verdicts(deduplicate(rows)) == {3: ("exact_duplicate", 1, 0)}
    others = [row(4, None, A, files=("white", A)), row(5, None, B, files=("white", B))]
    assert verdicts(deduplicate(others, match="any_image")) == {}


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["edit", "pair", "target", "any_image"]))
def test_order_and_cuts_change_nothing_and_no_row_vanishes(seed: int, match: str) -> None:
    draw = np.random.default_rng(seed)
    centres = [int(value) for value in draw.integers(0, 2**64, 6, dtype=np.uint64)]

    def near(centre: int) -> int:
        for bit in draw.integers(0, 64, draw.integers(0, 5)):
            centre ^= 1 << int(bit)
        return centre

    rows = [row(key, near(centres[draw.integers(6)]), near(centres[draw.integers(6)])) for key in range(60)]
    expected = verdicts(deduplicate(rows, match=match))
    kept = {int(key, 16) for key in deduplicate(rows, match=match).kept["key"].to_pylist()}
    assert kept | set(expected) == set(range(60)) and not kept & set(expected)
    assert {other for _, other, _ in expected.values()} <= kept
    shuffled = [rows[place] for place in draw.permutation(60)]
    assert verdicts(deduplicate(shuffled, cuts=int(draw.integers(1, 9)), match=match)) == expected


def test_hashes_are_added_to_rows_and_faults_are_rows(tmp_path: Any) -> None:
    image, other = encoded(scene(0)), encoded(scene(1))
    table = pa.table(
        {
            "key": [f"{number:032x}" for number in range(4)],
            "references": pa.array(
                [[{"bytes": data, "path": "a"}] for data in (image, other, b"no image")] + [[]], pa.list_(IMAGE_TYPE)
            ),
            "target": pa.array([{"bytes": other, "path": "b"}] * 4, IMAGE_TYPE),
            "instruction": ["Make it blue."] * 4,
        }
    )
    step = PerceptualHash(parse_config(PerceptualHashConfig, {}, "perceptual_hash"))
    result = step(table)
    assert result.rejected["reason"].to_pylist() == ["image_format_unknown", "image_missing"]
    first, second = result.kept["image_hashes"].to_pylist()
    assert [entry["column"] for entry in first] == ["references", "target"]
    assert first[0]["perceptual"] == hash_of(scene(0))
    assert second[0] == {**first[1], "column": "references"}
    assert result.kept["instruction_mark"].to_pylist() == [instruction_mark("make it  blue")] * 2
    single = PerceptualHash(parse_config(PerceptualHashConfig, {"columns": ["target"]}, "perceptual_hash"))
    assert [len(row) for row in single(table).kept["image_hashes"].to_pylist()] == [1] * 4
    of_records = PerceptualHash(parse_config(PerceptualHashConfig, {"columns": ["image"]}, "perceptual_hash"))
    records = of_records(pa.table({"key": table["key"], "image": table["target"]})).kept
    assert records["instruction_mark"].null_count == 4


def test_without_a_decision_or_a_column_it_says_so() -> None:
    step = Deduplicate(DeduplicateConfig())
    with pytest.raises(ContractError, match="has no decision yet"):
        step(pa.Table.from_pylist([row(1, A)], schema=SCHEMA))
    with pytest.raises(SchemaError, match="needs column 'judge_scores'"):
        Deduplicate(DeduplicateConfig(prefer_score="naturalness"))(
            pa.Table.from_pylist([row(1, A)], schema=SCHEMA).drop_columns(["judge_scores"])
        )
