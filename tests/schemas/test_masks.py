"""The max-pool onto the latent grid, and the edited fraction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from schemas.masks import edited_fraction, max_pool


@settings(max_examples=60)
@given(st.integers(1, 9), st.data())
def test_max_pool_is_the_naive_loop(stride, data):
    mask = data.draw(arrays(np.bool_, st.tuples(st.integers(stride, 40), st.integers(stride, 40))))
    pooled = max_pool(mask, stride)
    assert pooled.dtype == np.bool_
    assert pooled.shape == (mask.shape[0] // stride, mask.shape[1] // stride)
    for row in range(pooled.shape[0]):
        for column in range(pooled.shape[1]):
            cell = mask[row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
            assert pooled[row, column] == cell.any()


@given(arrays(np.bool_, (32, 48)))
def test_pooling_never_loses_an_edit_nor_shrinks_its_share(mask):
    assert max_pool(mask).any() == mask.any()
    assert edited_fraction(max_pool(mask)) >= edited_fraction(mask)


def test_pooling_views_and_leaves_its_input_alone():
    mask = np.random.default_rng(0).random((64, 80)) < 0.01
    before = mask.copy()
    np.testing.assert_array_equal(max_pool(mask[::-1, ::-1]), max_pool(mask)[::-1, ::-1])
    np.testing.assert_array_equal(max_pool(mask.T), max_pool(mask).T)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize(
    "mask", [np.zeros((7, 64), bool), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 1), bool), np.zeros((0, 8), bool)]
)
def test_what_cannot_be_pooled_is_an_error(mask):
    with pytest.raises(ValueError, match="it must"):
        max_pool(mask)


def test_edited_fraction_counts():
    mask = np.zeros((10, 10), bool)
    mask[:2, :5] = True
    assert edited_fraction(mask) == 0.1
    assert edited_fraction(~mask) == 0.9
