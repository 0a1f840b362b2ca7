"""The recipe `robust` where most or all of an image changed: what is still an edit with a region, and what is not."""

import cv2
import numpy as np
import pytest

from pipelines.masks.registry import make_recipe
from pipelines.masks.robust.likeness import measure_likeness
from pipelines.masks.score import pooled_iou
from pipelines.synthesis.degradations import jpeg, moved, resample, toned, vae
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
