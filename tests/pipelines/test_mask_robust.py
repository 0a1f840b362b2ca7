"""The recipe `robust`: what it withstands, what it tells apart, and what it says of its grounds."""

import json

import cv2
import numpy as np
import pytest

from pipelines.masks.registry import make_recipe
from pipelines.masks.robust.align import estimate_motion
from pipelines.masks.robust.survey import cells
from pipelines.masks.robust.tone import fit_tone
from pipelines.masks.score import pooled_iou
from pipelines.synthesis.degradations import DEGRADATIONS, moved, toned
from pipelines.synthesis.edits import make_edit
from pipelines.synthesis.photographs import load_photographs, scaled
from schemas.errors import ConfigError
from schemas.masks import MaskStatus

PHOTOGRAPHS = {photograph.name: scaled(photograph, 384) for photograph in load_photographs()}
ROBUST = make_recipe("robust", {})


def degraded(name, reference, target):
    return DEGRADATIONS[name](reference, target, np.random.default_rng(7))


def build(reference, target, **parameters):
    return (make_recipe("robust", parameters) if parameters else ROBUST).build([reference], target)


@pytest.mark.parametrize("name", ["camera", "coffee", "flower", "rocket"])
@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_an_unchanged_pair_is_unchanged_under_every_degradation(name, degradation):
    pixels = PHOTOGRAPHS[name].pixels
    result = build(*degraded(degradation, pixels, pixels))
    assert result.status is MaskStatus.UNCHANGED
    assert not result.mask.any()
    assert result.confidence > 0.2


@pytest.mark.parametrize("name", ["china", "flower", "hubble", "retina"])
@pytest.mark.parametrize("degradation", ["none", "jpeg75", "several"])
def test_a_graded_photograph_is_global_also_where_most_of_it_is_dark(name, degradation):
    edit = make_edit("global", PHOTOGRAPHS[name], 3)
    result = build(*degraded(degradation, edit.reference, edit.target))
    assert result.status is MaskStatus.GLOBAL
    assert result.mask.all()


@pytest.mark.parametrize("kind", ["insert", "recolour", "two", "tiny", "many"])
@pytest.mark.parametrize("degradation", ["none", "jpeg50", "shift3", "several"])
def test_known_regions_are_found_through_what_lies_between(kind, degradation):
    edit = make_edit(kind, PHOTOGRAPHS["coffee"], 5)
    result = build(*degraded(degradation, edit.reference, edit.target))
    assert result.status is MaskStatus.OK
    assert pooled_iou(result.mask, edit.mask) > 0.75


def test_a_small_edit_beside_a_large_one_survives():
    pixels = PHOTOGRAPHS["chelsea"].pixels
    target = pixels.copy()
    target[20:180, 20:200] = 255 - target[20:180, 20:200]
    target[225:237, 350:362, 2] = 255
    result = build(*degraded("several", pixels, target))
    assert result.mask[100, 100]
    assert result.mask[225:237, 350:362].mean() > 0.9
    assert result.evidence["references"][0]["components"]["kept"] == 2


def test_a_background_replacement_leaves_the_subject_out():
    subject, other = PHOTOGRAPHS["astronaut"].pixels, PHOTOGRAPHS["china"].pixels
    background = np.ones(subject.shape[:2], bool)
    background[60:340, 110:280] = False
    target = np.where(background[..., None], cv2.resize(other, subject.shape[1::-1]), subject)
    for degradation in ("none", "jpeg75", "several"):
        result = build(*degraded(degradation, subject, target))
        assert result.status is MaskStatus.OK
        assert not result.evidence["references"][0]["tone"]["whole_image"]
        assert pooled_iou(result.mask, background) > 0.85


def test_a_removal_is_masked_as_a_whole():
    edit = make_edit("remove", PHOTOGRAPHS["coffee"], 1)
    for degradation in ("none", "jpeg75", "several"):
        result = build(*degraded(degradation, edit.reference, edit.target))
        assert pooled_iou(result.mask, edit.mask) > 0.75
        assert cv2.connectedComponents(result.mask.astype(np.uint8))[0] - 1 <= 2


def test_a_change_of_colour_alone_is_an_edit():
    pixels = np.full((128, 128, 3), 120, np.uint8)
    hue, blue = pixels.copy(), pixels.copy()
    # ITU-R 601 luma stays: 0.299 * 38 = 0.114 * 100.
    hue[40:90, 40:90] = (158, 120, 20)
    blue[40:90, 40:90, 2] = 60
    for target in (hue, blue):
        result = build(pixels, target)
        assert result.mask[40:90, 40:90].all()
        assert result.edited_fraction == 50 * 50 / 128**2


def test_other_scenes_are_misaligned_and_say_so():
    reference = cv2.resize(PHOTOGRAPHS["china"].pixels, (384, 256))
    target = cv2.resize(PHOTOGRAPHS["coffee"].pixels, (384, 256))
    result = build(reference, target)
    assert result.status is MaskStatus.MISALIGNED
    assert not result.mask.any()
    assert result.evidence["references"][0]["structure"] < 0.2


def test_an_edit_under_the_floor_is_too_small():
    edit = make_edit("tiny", PHOTOGRAPHS["coffee"], 0)
    result = build(edit.reference, edit.target, min_edited_fraction=0.05)
    assert result.status is MaskStatus.TOO_SMALL
    assert 0.0 < result.edited_fraction < 0.05


@pytest.mark.parametrize("shift", [(0.4, -0.3), (1.6, 0.5), (-3.0, 2.0), (5.5, -4.25)])
@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_a_shift_is_estimated_within_a_tenth_of_a_pixel(name, shift):
    pixels = PHOTOGRAPHS[name].pixels
    motion = estimate_motion(moved(pixels, shift), pixels)
    assert motion.accepted
    assert motion.shift == pytest.approx(shift, abs=0.1)
    assert motion.residual_after < motion.residual_before


def test_registration_leaves_alone_what_lies_in_place():
    edit = make_edit("recolour", PHOTOGRAPHS["chelsea"], 0)
    for degradation in ("none", "jpeg50", "tone"):
        reference, target = degraded(degradation, edit.reference, edit.target)
        assert not estimate_motion(reference, target).accepted
    assert not estimate_motion(edit.reference, edit.reference).accepted


def test_a_slight_drift_of_tone_is_fitted_and_a_strong_one_is_an_edit():
    pixels = PHOTOGRAPHS["coffee"].pixels
    slight = fit_tone(cells(pixels), cells(toned(pixels)))
    assert slight.accepted
    assert not slight.whole_image
    table = slight.table()[0].astype(int)
    expected = 255 * (np.arange(256) / 255) ** 1.06 * 1.04 + 3
    np.testing.assert_allclose(table[40:220, 0], expected[40:220], atol=2)
    strong = fit_tone(cells(pixels), cells(toned(pixels, 0.6, 0.0, 1.3)))
    assert strong.whole_image
    assert not strong.accepted


def test_swapping_reference_and_target_gives_nearly_the_same_mask():
    edit = make_edit("insert", PHOTOGRAPHS["rocket"], 2)
    there, back = build(edit.reference, edit.target), build(edit.target, edit.reference)
    assert pooled_iou(there.mask, back.mask) > 0.95


def test_the_same_pair_twice_as_large_gets_the_same_mask():
    edit = make_edit("two", PHOTOGRAPHS["coffee"], 4)
    reference, target = degraded("jpeg75", edit.reference, edit.target)
    size = (2 * target.shape[1], 2 * target.shape[0])
    large = build(*(cv2.resize(one, size, interpolation=cv2.INTER_CUBIC) for one in (reference, target)))
    small = build(reference, target)
    halved = cv2.resize(large.mask.astype(np.uint8), target.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert pooled_iou(small.mask, halved) > 0.85


def test_several_references_are_united_and_intersected_by_choice():
    pixels = PHOTOGRAPHS["chelsea"].pixels
    target, also = pixels.copy(), pixels.copy()
    target[40:120, 40:160] = 255 - target[40:120, 40:160]
    also[40:120, 40:100] = target[40:120, 40:100]
    also[160:220, 200:300] = 255 - also[160:220, 200:300]
    united = ROBUST.build([pixels, also], target).mask
    assert united[80, 60]
    assert united[80, 130]
    assert united[190, 250]
    common = make_recipe("robust", {"several_references": "intersection"}).build([pixels, also], target).mask
    assert common[80, 130]
    assert not common[80, 60]
    assert not common[190, 250]


def test_the_evidence_is_plain_and_the_confidence_falls_with_noise():
    edit = make_edit("recolour", PHOTOGRAPHS["coffee"], 0)
    clean, noisy = (build(*degraded(name, edit.reference, edit.target)) for name in ("none", "several"))
    assert 0.0 <= noisy.confidence < clean.confidence <= 1.0
    one = json.loads(json.dumps(noisy.evidence))["references"][0]
    assert {"registration", "tone", "softened", "noise", "components", "agreement"} <= set(one)
    assert one["registration"]["applied"]
    assert one["registration"]["residual_after"] < one["registration"]["residual_before"]
    components = one["components"]
    assert components["found"] == components["kept"] + components["dropped"]
    assert all({"share", "contrast", "kept"} == set(component) for component in components["strongest"])


def test_the_stages_come_in_the_order_of_the_four_steps():
    edit = make_edit("recolour", PHOTOGRAPHS["coffee"], 0)
    result = build(edit.reference, edit.target)
    assert list(result.stages) == ["difference", "threshold", "closing", "components", "pooled"]
    assert result.stages["difference"].dtype == np.uint8
    assert all(stage.dtype == np.bool_ for name, stage in result.stages.items() if name != "difference")


@pytest.mark.parametrize("shape", [(8, 8), (8, 300), (33, 9), (64, 64)])
@pytest.mark.parametrize("level", [0, 255])
def test_the_smallest_and_flattest_images_are_unchanged(shape, level):
    flat = np.full((*shape, 3), level, np.uint8)
    assert build(flat, flat.copy()).status is MaskStatus.UNCHANGED


def test_thresholds_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="high_threshold"):
        make_recipe("robust", {"low_threshold": 8.0, "high_threshold": 4.0})


@pytest.mark.parametrize(("height", "width"), [(1061, 1043), (1560, 1090)])
def test_a_large_pair_gets_the_mask_of_the_small_one_at_its_own_size(height, width):
    edit = make_edit("two", PHOTOGRAPHS["coffee"], 5)
    shift = (1.5, -0.5)
    large = [
        cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC)
        for one in (moved(edit.reference, shift), edit.target)
    ]
    truth = cv2.resize(edit.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    result = build(*large)
    assert result.mask.shape == (height, width)
    assert result.edited_fraction == result.mask.mean()
    assert result.stages["pooled"].shape == (height // 8, width // 8)
    found = result.evidence["references"][0]["registration"]
    small = edit.mask.shape
    assert found["shift"] == pytest.approx([shift[0] * width / small[1], shift[1] * height / small[0]], abs=0.5)
    assert pooled_iou(result.mask, truth) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(8, 131072), (131072, 8), (16, 200000), (100, 20000), (8, 8)])
def test_a_strip_of_any_length_gets_a_verdict(height, width):
    reference = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    target = reference.copy()
    target[:, width // 4 : width // 2] = 0
    result = build(reference, target)
    assert result.mask.shape == (height, width)
    if max(height, width) > 8 and height < width:
        assert result.status is MaskStatus.OK
        assert result.edited_fraction == pytest.approx(0.25, abs=0.01)
