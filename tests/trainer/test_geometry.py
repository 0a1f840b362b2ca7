"""One geometry for reference, target and mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.masks import max_pool
from trainer.data.buckets import bucket_table
from trainer.data.geometry import (
    apply_to_image,
    apply_to_mask,
    choose_crop,
    latent_cells,
    reduced,
    reduction_of,
)


def grid(height: int, width: int, cell: int) -> np.ndarray:
    """A chequerboard, (H, W) bool."""
    rows, columns = np.mgrid[:height, :width]
    return ((rows // cell + columns // cell) % 2).astype(np.bool_)


SIZES = [
    (96, 160, 64, 64),
    (200, 120, 96, 96),
    (48, 80, 96, 96),
    (64, 64, 64, 64),
    (200, 320, 192, 128),
    (90, 90, 80, 48),
]


@pytest.mark.parametrize(("height", "width", "wide", "high"), SIZES)
def test_a_pattern_stays_aligned_through_image_and_mask(height: int, width: int, wide: int, high: int) -> None:
    mask = grid(height, width, 24)
    image = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[:, :, None], 3, axis=2)
    crop = choose_crop(mask, wide, high)
    drawn = apply_to_image(image, crop)[:, :, 0] > 127
    pooled = apply_to_mask(mask, crop)
    assert drawn.shape == pooled.shape == (high, wide)
    assert not (drawn & ~pooled).any()
    # "Edited where any source pixel is" may widen an edge by one pixel, never more.
    inner = ~pooled
    grown = inner.copy()
    grown[1:] |= inner[:-1]
    grown[:-1] |= inner[1:]
    grown[:, 1:] |= grown[:, :-1].copy()
    grown[:, :-1] |= grown[:, 1:].copy()
    assert not (~drawn & ~grown).any()


def test_a_reference_of_half_the_size_shows_the_same_part() -> None:
    generator = np.random.default_rng(0)
    small = np.kron(generator.integers(0, 255, (6, 12, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    large = np.kron(small, np.ones((2, 2, 1), np.uint8))
    mask = np.zeros(large.shape[:2], np.bool_)
    mask[:, 150:180] = True
    crop = choose_crop(mask, 48, 48)
    assert np.array_equal(apply_to_image(small, crop), apply_to_image(large, crop))


def test_a_reference_of_another_shape_is_cropped_in_its_middle() -> None:
    crop = choose_crop(np.ones((64, 128), np.bool_), 64, 64)
    other = np.zeros((128, 64, 3), np.uint8)
    other[32:96] = 200
    assert (apply_to_image(other, crop) == 200).all()


@given(
    st.integers(16, 90),
    st.integers(16, 90),
    st.data(),
    st.sampled_from([(16, 16), (32, 32), (48, 16), (32, 48)]),
    st.sampled_from([1, 2, 4]),
)
def test_the_crop_holds_the_whole_edit_where_it_can_and_loses_no_pixel_of_it(
    height: int, width: int, data: st.DataObject, out: tuple[int, int], reduction: int
) -> None:
    nothing = choose_crop(np.zeros((height, width), np.bool_), *out, reduction)
    columns, rows = nothing.columns, nothing.rows
    # A window that starts on a lattice holds every box that is smaller by a step of it.
    box_height = data.draw(st.integers(1, rows - reduction + 1))
    box_width = data.draw(st.integers(1, columns - reduction + 1))
    top, left = data.draw(st.integers(0, height - box_height)), data.draw(st.integers(0, width - box_width))
    mask = np.zeros((height, width), np.bool_)
    mask[top : top + box_height, left : left + box_width] = True
    crop = choose_crop(mask, *out, reduction)
    assert crop.left % reduction == crop.top % reduction == crop.columns % reduction == crop.rows % reduction == 0
    assert 0 <= crop.left <= width - crop.columns and 0 <= crop.top <= height - crop.rows
    part = mask[crop.top : crop.top + crop.rows, crop.left : crop.left + crop.columns]
    lost = mask.sum() - part.sum()
    # Only what a lattice leaves over at the far edges may be lost.
    assert lost == 0 or (reduction > 1 and lost <= mask[:, -reduction:].sum() + mask[-reduction:].sum())
    cells = latent_cells(mask, crop)
    assert cells.shape == (out[1] // 8, out[0] // 8)
    assert np.array_equal(cells, max_pool(apply_to_mask(mask, crop)))
    assert cells.any() == part.any()


def test_the_window_keeps_the_aspect_ratio_of_its_bucket() -> None:
    for bucket in bucket_table(512, "aspect"):
        crop = choose_crop(np.zeros((700, 900), np.bool_), bucket.width, bucket.height)
        assert crop.columns == 900 or crop.rows == 700
        assert crop.columns / crop.rows == pytest.approx(bucket.width / bucket.height, rel=2e-3)


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_image_shows_the_same_window(reduction: int) -> None:
    """What a decoder reduces is the mean of each square of pixels, so windows on its lattice stay whole."""
    generator = np.random.default_rng(1)
    coarse = generator.integers(0, 255, (67, 101, 3), dtype=np.uint8)
    image = np.kron(coarse, np.ones((reduction, reduction, 1), np.uint8))[: 67 * reduction - 1, : 101 * reduction - 1]
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[5:9, -3 * reduction :] = True
    assert reduction_of(image.shape[1], image.shape[0], 64, 64) == reduction
    crop = choose_crop(mask, 64, 64, reduction)
    small = reduced(crop, reduction)
    window = image[crop.top : crop.top + crop.rows, crop.left : crop.left + crop.columns]
    ours = coarse[small.top : small.top + small.rows, small.left : small.left + small.columns]
    assert np.array_equal(np.kron(ours, np.ones((reduction, reduction, 1), np.uint8)), window)
    assert (small.height, small.width) == coarse.shape[:2]
    assert crop.left + crop.columns > image.shape[1] - 2 * reduction


def test_an_image_is_reduced_only_where_its_window_stays_as_large_as_the_result() -> None:
    assert reduction_of(512, 512, 512, 512) == 1
    assert reduction_of(1023, 2048, 512, 512) == 1
    assert reduction_of(1024, 2048, 512, 512) == 2
    assert reduction_of(4096, 5000, 512, 512) == 8
    assert reduction_of(99_999, 99_999, 512, 512) == 8
    assert reduction_of(3, 3, 16, 16) == 1


def test_without_resizing_the_cells_are_the_pooled_mask() -> None:
    mask = np.random.default_rng(0).random((64, 64)) < 0.02
    assert np.array_equal(latent_cells(mask, choose_crop(mask, 64, 64)), max_pool(mask))


def test_an_edit_in_the_middle_leaves_the_crop_in_the_middle() -> None:
    mask = np.zeros((64, 128), np.bool_)
    mask[20:40, 60:80] = True
    assert choose_crop(mask, 64, 64).left == 32
    mask[:, 120] = True
    assert choose_crop(mask, 64, 64).left == 57
