"""The recipe `uniworld` against what the UniWorld-V1 release gave for the same files, bit for bit."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.masks.registry import make_recipe
from schemas.images import decode_image, decode_mask
from schemas.masks import MaskStatus

FOLDER = Path(__file__).parents[1] / "data" / "uniworld_expected"
CASES = {case["name"]: case for case in map(json.loads, (FOLDER / "expected.jsonl").read_text().splitlines())}


def build(name):
    numbers = range(CASES[name]["references"])
    references = [decode_image((FOLDER / f"{name}.reference{number or ''}.png").read_bytes()) for number in numbers]
    return make_recipe("uniworld", {}).build(references, decode_image((FOLDER / f"{name}.target.png").read_bytes()))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["refused"]])
def test_every_case_of_the_release_is_met_bit_for_bit(name):
    case, result = CASES[name], build(name)
    np.testing.assert_array_equal(result.mask, decode_mask((FOLDER / f"{name}.mask.png").read_bytes()))
    pooled = decode_mask((FOLDER / f"{name}.pooled.png").read_bytes())
    np.testing.assert_array_equal(result.stages["pooled"], pooled)
    assert list(pooled.shape[::-1]) == case["pooled_size"]
    assert result.stages["pooled"].mean() == case["pooled_fraction"]
    assert result.stages["components"].mean() == case["foreground_fraction_before_fallback"]
    assert result.edited_fraction == result.mask.mean()


def test_what_the_release_refuses_is_too_small():
    refused = [name for name, case in CASES.items() if case["refused"]]
    assert refused == ["tiny"]
    result = build("tiny")
    assert result.status is MaskStatus.TOO_SMALL
    assert result.edited_fraction == CASES["tiny"]["foreground_fraction_before_fallback"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("identical", MaskStatus.UNCHANGED),
        ("blue_shift", MaskStatus.UNCHANGED),
        ("four_equal", MaskStatus.GLOBAL),
        ("one_square", MaskStatus.OK),
        ("two_references", MaskStatus.OK),
    ],
)
def test_the_status_tells_the_two_ways_to_a_whole_image_apart(name, status):
    assert build(name).status is status


def test_several_references_without_a_common_edit_are_refused_as_the_release_refuses_them():
    target = np.zeros((64, 64, 3), np.uint8)
    left, right = target.copy(), target.copy()
    left[:, :24] = 200
    right[:, 40:] = 200
    result = make_recipe("uniworld", {}).build([left, right], target)
    assert result.status is MaskStatus.TOO_SMALL
    assert not result.mask.any()


def test_the_stages_come_in_the_order_of_the_four_steps():
    result = build("ring")
    assert list(result.stages) == ["difference", "threshold", "closing", "components", "pooled"]
    assert result.stages["difference"].dtype == np.uint8
    assert all(stage.dtype == np.bool_ for name, stage in result.stages.items() if name != "difference")
