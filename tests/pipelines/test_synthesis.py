"""Known edits: the mask is true to the pixel, and the same seed gives the same edit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import data

from pipelines.masks.registry import make_recipe
from pipelines.masks.score import pooled_iou
from pipelines.synthesis import photographs as module
from pipelines.synthesis.edits import KINDS, make_edit
from pipelines.synthesis.operations import COLOURS, mean_hue, paste, recolour
from pipelines.synthesis.photographs import Photograph, encode_jpeg, load_photographs, scaled
from pipelines.synthesis.regions import blob, ellipse, feather, outline, position_in_words
from schemas.errors import InputError
from schemas.images import decode_image, image_extension
from schemas.masks import MaskStatus, edited_fraction


@pytest.fixture(scope="module")
def collection():
    return {photograph.name: scaled(photograph, 256) for photograph in load_photographs()}


def test_the_photographs_are_there_with_their_original_pixels():
    found = load_photographs()
    assert len({photograph.name for photograph in found}) == len(found) >= 8
    for photograph in found:
        assert photograph.pixels.dtype == np.uint8
        assert min(photograph.pixels.shape[:2]) >= 300
        assert photograph.licence in {"CC0-1.0", "CC-BY-2.0", "public-domain"}
        assert photograph.attribution
    coffee = next(photograph for photograph in found if photograph.name == "coffee")
    np.testing.assert_array_equal(coffee.pixels, data.coffee())


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install"):
        load_photographs()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "flower", "hubble"])
def test_nothing_changes_outside_the_mask_and_nearly_everything_inside(kind, name, collection):
    edit = make_edit(kind, collection[name], seed=5, donor=collection["china"] if name == "flower" else None)
    changed = (edit.reference != edit.target).any(axis=2)
    assert not (changed & ~edit.mask).any()
    fraction = edited_fraction(edit.mask)
    if kind == "unchanged":
        assert fraction == 0.0
    elif kind == "global":
        assert fraction == 1.0
        assert changed.mean() > 0.85
    else:
        assert 0.001 < fraction < 0.6
        assert changed[edit.mask].mean() > 0.85
    np.testing.assert_array_equal(edit.reference, collection[name].pixels)
    assert edit.target.dtype == np.uint8
    assert edit.instruction[0].isupper()
    assert edit.instruction.endswith(".")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_arguments_give_the_same_edit(kind, collection):
    one, again, other = (make_edit(kind, collection["coffee"], seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.target, again.target)
    np.testing.assert_array_equal(one.mask, again.mask)
    assert one.instruction == again.instruction
    if kind in ("insert", "two"):
        assert (one.target != other.target).any()


def test_instructions_name_what_the_photograph_holds(collection):
    said = {make_edit("recolour", collection["flower"], seed=seed).instruction for seed in range(12)}
    assert all("the dahlia" in one or "the bud" in one for one in said)
    assert all(any(colour in one for colour in COLOURS) for one in said)
    pasted = make_edit("insert", collection["coffee"], seed=1, donor=collection["flower"])
    assert pasted.instruction.startswith("Add a dahlia at the ")


def test_two_edits_are_one_large_and_one_small_and_lie_apart(collection):
    for name in ("china", "flower", "hubble"):
        labels, count = ndimage.label(make_edit("two", collection[name], seed=2).mask, np.ones((3, 3)))
        areas = np.sort(np.bincount(labels.ravel())[1:])
        assert count == 2
        assert areas[0] < 0.25 * areas[1]


def test_a_photograph_without_subjects_is_edited_too():
    plain = Photograph("plain", "", "", "", "", "", (), np.full((80, 96, 3), 120, np.uint8))
    for kind in KINDS:
        edit = make_edit(kind, plain, seed=0)
        assert edit.target.shape == (80, 96, 3)
    with pytest.raises(ValueError, match="64 x 64"):
        make_edit("recolour", replace(plain, pixels=plain.pixels[:40]), seed=0)


def test_a_recipe_finds_the_known_region_through_jpeg(collection):
    for name in ("astronaut", "coffee", "flower"):
        edit = make_edit("recolour", collection[name], seed=1)
        pair = [decode_image(encode_jpeg(pixels, 92)) for pixels in (edit.reference, edit.target)]
        for recipe in ("seed", "uniworld"):
            result = make_recipe(recipe, {}).build(pair[:1], pair[1])
            assert result.status is MaskStatus.OK
            assert pooled_iou(result.mask, edit.mask) > 0.65


def test_the_jpeg_is_one():
    encoded = encode_jpeg(np.full((40, 64, 3), 77, np.uint8), 90)
    assert image_extension(encoded) == "jpg"
    assert np.abs(decode_image(encoded).astype(int) - 77).max() <= 1


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.floats(0.0, 12.0))
def test_a_feathered_region_holds_its_region_and_ends(seed, width):
    region = blob((60, 90), (0.5, 0.5), (0.2, 0.25), np.random.default_rng(seed))
    alpha = feather(region, width)
    assert alpha.min() >= 0.0
    assert alpha.max() <= 1.0 + 1e-6
    assert (alpha > 0)[region].all()
    assert not (alpha > 0)[0].any()
    if width == 0.0:
        np.testing.assert_array_equal(alpha > 0, region)


def test_an_outline_follows_the_object():
    pixels = np.full((120, 160, 3), (40, 120, 60), np.uint8)
    true = ellipse((120, 160), (0.5, 0.5), (0.2, 0.25))
    pixels[true] = (220, 60, 50)
    noise = np.random.default_rng(0).integers(-8, 9, pixels.shape)
    pixels = (pixels + noise).astype(np.uint8)
    found = outline(pixels, ellipse((120, 160), (0.52, 0.5), (0.3, 0.35)))
    assert np.count_nonzero(found & true) / np.count_nonzero(found | true) > 0.93


def test_recolouring_gives_the_hue_asked_for():
    pixels = np.random.default_rng(0).integers(90, 200, (30, 30, 3), np.uint8)
    everywhere = np.ones((30, 30), bool)
    for hue in COLOURS.values():
        found = mean_hue(recolour(pixels, everywhere.astype(np.float32), hue), everywhere)
        assert abs((found - hue + 180) % 360 - 180) < 4
    assert mean_hue(np.full((5, 5, 3), 90, np.uint8), np.ones((5, 5), bool)) is None


def test_pasting_over_the_border_is_cut_off():
    base, patch = np.zeros((20, 20, 3), np.uint8), np.full((8, 8, 3), 250, np.uint8)
    image, alpha = paste(base, patch, np.ones((8, 8), np.float32), -3, 15)
    np.testing.assert_array_equal(alpha > 0, image[..., 0] == 250)
    assert np.count_nonzero(alpha) == 5 * 5


def test_positions_in_words():
    assert position_in_words((0.1, 0.1)) == "top left"
    assert position_in_words((0.5, 0.5)) == "centre"
    assert position_in_words((0.99, 0.5)) == "right"
    assert position_in_words((0.5, 1.0)) == "bottom"
