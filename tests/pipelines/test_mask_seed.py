"""The recipe `seed`: difference and threshold, dilation, components by share of the image, max-pool."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.masks.components import keep_components
from pipelines.masks.difference import channel_difference
from pipelines.masks.morphology import close, dilate
from pipelines.masks.registry import make_recipe
from schemas.errors import ConfigError
from schemas.masks import MaskStatus, max_pool

GREY = np.full((96, 128, 3), 100, np.uint8)


def edited(*boxes, by=60, channel=slice(None)):
    target = GREY.copy()
    for top, left, height, width in boxes:
        target[top : top + height, left : left + width, channel] += np.uint8(by)
    return target


def test_a_known_square_comes_back_grown_by_the_ellipse():
    result = make_recipe("seed", {"dilation": 7}).build([GREY], edited((30, 40, 20, 24)))
    true = np.zeros((96, 128), bool)
    true[30:50, 40:64] = True
    assert result.status is MaskStatus.OK
    np.testing.assert_array_equal(result.stages["threshold"], true)
    np.testing.assert_array_equal(result.mask, dilate(true, 7))
    np.testing.assert_array_equal(result.stages["pooled"], max_pool(result.mask))
    assert list(result.stages) == ["difference", "threshold", "dilation", "components", "pooled"]


def test_the_threshold_is_inclusive_and_a_single_colour_counts():
    recipe = make_recipe("seed", {"threshold": 30})
    box = (30, 40, 20, 24)
    assert recipe.build([GREY], edited(box, by=30, channel=2)).status is MaskStatus.OK
    assert recipe.build([GREY], edited(box, by=29, channel=2)).status is MaskStatus.UNCHANGED


def test_an_unchanged_pair_has_an_empty_mask():
    result = make_recipe("seed", {}).build([GREY], GREY.copy())
    assert result.status is MaskStatus.UNCHANGED
    assert not result.mask.any()
    assert result.edited_fraction == 0.0


def test_global_and_too_small():
    whole = make_recipe("seed", {"global_fraction": 0.9}).build([GREY], edited((0, 0, 96, 120)))
    assert whole.status is MaskStatus.GLOBAL
    assert whole.mask.all()
    parameters = {"min_edited_fraction": 0.01, "min_component_share": 0.0}
    small = make_recipe("seed", parameters).build([GREY], edited((10, 10, 2, 2)))
    assert small.status is MaskStatus.TOO_SMALL
    assert 0 < small.edited_fraction < 0.01


def test_components_are_held_against_the_image_not_the_mask():
    recipe = make_recipe("seed", {"dilation": 1, "min_component_share": 20 / (96 * 128)})
    large, small, smaller = (10, 10, 60, 60), (80, 100, 4, 5), (80, 120, 1, 19 // 3)
    mask = recipe.build([GREY], edited(large, small, smaller)).mask
    assert mask[10:70, 10:70].all()
    assert mask[80:84, 100:105].all(), "one of just the share stays"
    assert not mask[80, 120:126].any()


def test_several_references_are_intersected():
    target = edited((20, 20, 40, 40))
    also = GREY.copy()
    also[20:60, 20:40] = target[20:60, 20:40]
    result = make_recipe("seed", {"dilation": 1}).build([GREY, also], target)
    assert result.mask[20:60, 40:60].all()
    assert not result.mask[:, :40].any()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.integers(1, 30))
def test_components_agree_with_one_by_one(seed, density, min_area):
    mask = np.random.default_rng(seed).random((24, 31)) < density * 0.5
    seen, kept = np.zeros_like(mask), np.zeros_like(mask)
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        stack, members = [start], []
        seen[start] = True
        while stack:
            row, column = stack.pop()
            members.append((row, column))
            for near in ((row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                if 0 <= near[0] < 24 and 0 <= near[1] < 31 and mask[near] and not seen[near]:
                    seen[near] = True
                    stack.append(near)
        if len(members) >= min_area:
            kept[tuple(np.transpose(members))] = True
    np.testing.assert_array_equal(keep_components(mask, min_area), kept)


def test_growth_only_adds():
    mask = np.random.default_rng(0).random((50, 60)) < 0.1
    for size in (1, 3, 7):
        assert (dilate(mask, size) >= mask).all()
        assert (close(mask, size) >= mask).all()
        assert (dilate(mask, size) >= close(mask, size)).all()


def test_the_three_ways_to_combine_channels():
    reference, target = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    target[...] = (30, 60, 200)
    assert (channel_difference(reference, target, "max") == 200).all()
    assert (channel_difference(reference, target, "mean") == 97).all()
    assert (channel_difference(reference, target, "luma") == 67).all()


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("sed", {}, "must be one of robust, seed, uniworld"),
        ("seed", {"treshold": 3}, "Did you mean 'threshold'?"),
        ("seed", {"dilation": 4}, "must be odd"),
        ("uniworld", {"min_component_share": 1.5}, "less than or equal to 1"),
    ],
)
def test_wrong_recipes_and_parameters_are_config_errors(name, parameters, says):
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        make_recipe(name, parameters)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at least one reference"):
        make_recipe("seed", {}).build([], GREY)
    with pytest.raises(ValueError, match="one shape"):
        make_recipe("seed", {}).build([GREY[:50]], GREY)
