"""The recipe `robust` where most or all of an image changed: what is still an edit with a region, and what is not."""

import cv2
import numpy as np
import pytest

from pipelines.masks.registry import make_recipe
from pipelines.masks.robust.likeness import measure_likeness
from pipelines.masks.score import pooled_iou
from pipelines.synthesis.degradations import DEGRADATIONS, jpeg, moved, resample, toned, vae
from pipelines.synthesis.edits import make_edit
from pipelines.synthesis.photographs import load_photographs, scaled
from schemas.masks import MaskStatus

PHOTOGRAPHS = {photograph.name: scaled(photograph, 384) for photograph in load_photographs()}
ROBUST = make_recipe("robust", {})


def subject_of(shape, share):
    """An upright ellipse in the middle that covers `share` of the image: (H, W) bool."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width]
    reach = np.sqrt(share / np.pi)
    return np.hypot((x / width - 0.5) / reach, (y / height - 0.5) / reach) < 1.0


@pytest.mark.parametrize("share", [0.12, 0.3])
@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_a_subject_whose_tone_drifted_is_kept_before_a_replaced_background(name, share):
    reference = PHOTOGRAPHS[name].pixels
    other = cv2.resize(PHOTOGRAPHS["china"].pixels, reference.shape[1::-1])
    background = ~subject_of(reference.shape[:2], share)
    target = toned(np.where(background[..., None], other, reference), 0.96, 4.0, 1.05)
    for degraded in (target, vae(target, np.random.default_rng(0))):
        result = ROBUST.build([reference], degraded)
        assert result.status is MaskStatus.OK
        assert pooled_iou(result.mask, background) > 0.9


@pytest.mark.parametrize("name", ["astronaut", "coffee", "flower"])
@pytest.mark.parametrize("look", ["night", "grey"])
def test_a_background_that_was_graded_is_an_edit_of_the_background(name, look):
    reference = PHOTOGRAPHS[name].pixels
    background = ~subject_of(reference.shape[:2], 0.1)
    night = np.uint8(reference * np.array([0.4, 0.45, 0.6]))
    grey = np.repeat(np.uint8(reference.mean(-1, keepdims=True) * 0.8 + 45), 3, axis=-1)
    target = np.where(background[..., None], {"night": night, "grey": grey}[look], reference)
    for degraded in (target, jpeg(target, 75)):
        result = ROBUST.build([reference], degraded)
        assert result.status is MaskStatus.OK
        assert pooled_iou(result.mask, background) > 0.85


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "china"])
def test_what_was_drawn_anew_is_global_whether_or_not_its_colours_stay(name):
    reference = PHOTOGRAPHS[name].pixels
    sketch = np.repeat(cv2.pencilSketch(reference, sigma_s=60, sigma_r=0.07, shade_factor=0.05)[0][..., None], 3, -1)
    painted = cv2.stylization(reference, sigma_s=60, sigma_r=0.6)
    for target in (sketch, painted):
        result = ROBUST.build([reference], target)
        assert result.status is MaskStatus.GLOBAL
        assert result.mask.all()


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "rocket"])
def test_a_crop_of_the_same_photograph_is_misaligned(name):
    reference = PHOTOGRAPHS[name].pixels
    height, width = reference.shape[:2]
    part = reference[height // 5 : height // 5 + height * 6 // 10, width // 10 : width // 10 + width * 6 // 10]
    result = ROBUST.build([reference], cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC))
    assert result.status is MaskStatus.MISALIGNED
    assert not result.mask.any()


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "camera", "rocket"])
def test_a_mirrored_photograph_is_misaligned(name):
    pixels = PHOTOGRAPHS[name].pixels
    result = ROBUST.build([pixels], jpeg(np.ascontiguousarray(pixels[:, ::-1]), 75))
    assert result.status is MaskStatus.MISALIGNED


def test_a_nearly_symmetric_portrait_that_was_mirrored_is_misaligned():
    cat = PHOTOGRAPHS["chelsea"].pixels
    portrait = np.where(subject_of(cat.shape[:2], 0.75)[..., None], cat, np.uint8(255))
    result = ROBUST.build([portrait], jpeg(np.ascontiguousarray(portrait[:, ::-1]), 75))
    assert result.status is MaskStatus.MISALIGNED
    assert result.evidence["references"][0]["mirrored"]


@pytest.mark.parametrize("degradation", ["none", "vae"])
def test_an_object_replaced_before_a_plain_ground_is_an_edit(degradation):
    ground = np.repeat(np.linspace(190, 215, 360)[:, None], 480, axis=1)[..., None] * np.array([1.0, 0.97, 0.92])
    known = np.zeros((360, 480), bool)
    images = []
    for name, box in (("coffee", (90, 280, 150, 330)), ("chelsea", (110, 280, 160, 360))):
        image, inside = np.uint8(ground), np.zeros((360, 480), bool)
        inside[box[0] : box[1], box[2] : box[3]] = True
        image[inside] = cv2.resize(PHOTOGRAPHS[name].pixels, (480, 360))[inside]
        images.append(image)
        known |= inside
    reference, target = images
    result = ROBUST.build([reference], vae(target, np.random.default_rng(0)) if degradation == "vae" else target)
    assert result.status is MaskStatus.OK
    assert pooled_iou(result.mask, known) > 0.85


@pytest.mark.parametrize("name", ["coffee", "chelsea", "camera"])
def test_likeness_is_of_what_is_shown_and_not_of_its_tone(name):
    pixels = PHOTOGRAPHS[name].pixels
    same = measure_likeness(pixels, 255 - toned(pixels, 0.7, 10.0, 1.4))
    assert same.structure > 0.9
    other = measure_likeness(pixels, cv2.resize(PHOTOGRAPHS["flower"].pixels, pixels.shape[1::-1]))
    assert other.structure < 0.15
    assert other.best_detail < 0.4
    noisy = measure_likeness(pixels, vae(pixels, np.random.default_rng(0)))
    assert noisy.typical_detail > 0.85


@pytest.mark.parametrize("name", ["camera", "coffee", "rocket", "china"])
@pytest.mark.parametrize("motion", [((2.3, -0.2), 1.002), ((-2.6, 2.4), 0.992), ((0.4, 0.4), 1.008)])
def test_a_border_that_moved_out_of_the_image_is_no_edit(name, motion):
    pixels = PHOTOGRAPHS[name].pixels
    result = ROBUST.build([moved(pixels, *motion)], jpeg(resample(pixels, 0.7), 75))
    assert result.status is MaskStatus.UNCHANGED


LOOKS = {
    "grey": np.array([[0.299, 0.587, 0.114]] * 3),
    "sepia": np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]]),
    "channels swapped": np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
}


def mixed(pixels, look):
    return np.uint8(np.clip(np.rint(pixels @ LOOKS[look].T), 0, 255))


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ["astronaut", "coffee", "flower", "china"])
def test_channels_that_were_mixed_everywhere_are_an_edit_of_the_whole_image(name, look):
    reference = PHOTOGRAPHS[name].pixels
    target = mixed(reference, look)
    for degraded in (target, jpeg(vae(target, np.random.default_rng(0)), 75)):
        result = ROBUST.build([reference], degraded)
        assert result.status is MaskStatus.GLOBAL
        assert result.mask.all()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_an_object_that_lost_its_colour_in_a_grey_photograph_is_an_edit_of_the_object(share):
    target = PHOTOGRAPHS["camera"].pixels
    known = subject_of(target.shape[:2], share)
    reference = np.where(known[..., None], np.uint8(np.clip(target * [1.2, 0.8, 0.5] + [20, 0, 0], 0, 255)), target)
    result = ROBUST.build([reference], jpeg(target, 90))
    assert result.status is MaskStatus.OK
    assert pooled_iou(result.mask, known) > 0.9


@pytest.mark.parametrize("name", ["astronaut", "coffee", "china"])
@pytest.mark.parametrize("degradation", ["none", "jpeg75", "vae"])
def test_a_background_that_was_blurred_is_an_edit_and_the_sharp_subject_none(name, degradation):
    reference = PHOTOGRAPHS[name].pixels
    subject = subject_of(reference.shape[:2], 0.3)
    target = np.where(subject[..., None], reference, cv2.GaussianBlur(reference, (0, 0), 6.0))
    # What the blur hardly moves was hardly edited.
    seen = np.abs(target.astype(int) - reference).max(-1) >= 12
    result = ROBUST.build([reference], DEGRADATIONS[degradation](reference, target, np.random.default_rng(0))[1])
    assert result.status is MaskStatus.OK
    assert result.mask[subject].mean() < 0.1
    assert result.mask[seen & ~subject].mean() > 0.6


def wobbled(pixels, random, by):
    """`pixels` redrawn up to about three times `by` pixels beside where they were, otherwise from place to place."""
    height, width = pixels.shape[:2]
    moves = [cv2.GaussianBlur(random.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 12.0) for _ in range(2)]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across, down = (move / move.std() * np.float32(by) for move in moves)
    return cv2.remap(pixels, x + across, y + down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["astronaut", "camera", "china", "coffee", "flower"])
def test_edges_that_were_redrawn_a_little_beside_are_no_edit(name, seed):
    pixels = PHOTOGRAPHS[name].pixels
    random = np.random.default_rng(seed)
    result = ROBUST.build([pixels], vae(wobbled(pixels, random, 0.5), random, 0.7, 3.0))
    assert result.status is MaskStatus.UNCHANGED


@pytest.mark.parametrize("name", ["camera", "china", "coffee"])
def test_a_small_edit_among_edges_that_were_redrawn_is_found_alone(name):
    pixels = PHOTOGRAPHS[name].pixels
    edit = make_edit("tiny", PHOTOGRAPHS[name], 1)
    random = np.random.default_rng(0)
    result = ROBUST.build([pixels], vae(wobbled(edit.target, random, 0.5), random, 0.7, 3.0))
    assert result.status is MaskStatus.OK
    assert pooled_iou(result.mask, edit.mask) > 0.6
    components = result.evidence["references"][0]["components"]
    assert components["found"] == components["kept"] + components["dropped"]
