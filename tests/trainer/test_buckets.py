"""Aspect buckets: sizes, assignment and merging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.layout import BUCKETS, aspect_bucket
from trainer.data.buckets import bucket_table, merged, nearest_bucket


@pytest.mark.parametrize("resolution", [256, 512, 768, 1024])
def test_every_bucket_has_about_the_tokens_of_the_square_and_never_more(resolution: int) -> None:
    table = bucket_table(resolution, "aspect")
    budget = (resolution // 16) ** 2
    assert [bucket.name for bucket in table] == list(BUCKETS)
    for bucket in table:
        assert bucket.width % 16 == bucket.height % 16 == 0
        assert 0.95 * budget <= bucket.tokens <= budget
        assert bucket.width / bucket.height == pytest.approx(BUCKETS[bucket.name], rel=0.05)
    sizes = {(bucket.width, bucket.height) for bucket in table}
    assert {(height, width) for width, height in sizes} == sizes
    (square,) = bucket_table(resolution, "square")
    assert (square.width, square.height) == (resolution, resolution)


def test_at_few_tokens_buckets_of_one_size_are_one() -> None:
    table = bucket_table(64, "aspect")
    assert [(bucket.width, bucket.height) for bucket in table] == [(48, 80), (64, 64), (80, 48)]


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_picture_goes_to_the_nearest_aspect_ratio(width: int, height: int) -> None:
    table = bucket_table(512, "aspect")
    (place,) = nearest_bucket(table, np.array([width], np.int32), np.array([height], np.int32)).tolist()
    ratios = np.abs(np.log([bucket.width / bucket.height for bucket in table]) - np.log(width / height))
    assert ratios[place] == pytest.approx(ratios.min())
    if (width, height) in {(1920, 1080), (1000, 1000), (640, 480)}:
        assert table[place].name == aspect_bucket(width, height)


def test_small_buckets_go_into_the_nearest_until_none_is_too_small() -> None:
    table = bucket_table(512, "aspect")
    counts = np.array([[0, 3, 40, 500, 7, 2, 0]])
    assert merged(table, counts, [1.0], 8).tolist() == [0, 2, 2, 3, 4, 4, 6]
    assert merged(table, counts, [1.0], 3).tolist() == [0, 1, 2, 3, 4, 4, 6]
    # All of them together are too few: one bucket holds them.
    assert len(set(merged(table, counts, [1.0], 552)[1:6].tolist())) == 1


def test_a_bucket_is_too_small_where_a_weighty_data_set_has_too_little_in_it() -> None:
    table = bucket_table(512, "aspect")[2:4]
    # Of the second data set, half of the run, one sample in ten lies in the first bucket: 1 of 10.
    counts = np.array([[500, 500], [1, 9]])
    assert merged(table, counts, [1.0, 1.0], 4).tolist() == [0, 1]
    assert merged(table, counts, [1.0, 1.0], 16).tolist() == [1, 1]
