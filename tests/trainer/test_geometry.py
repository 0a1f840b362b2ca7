"""One geometry for reference, target and mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.masks import max_pool
from trainer.data.geometry import apply_to_image, apply_to_mask, choose_crop, latent_cells


def grid(height: int, width: int, cell: int) -> np.ndarray:
    """A chequerboard, (H, W) bool."""
    rows, columns = np.mgrid[:height, :width]
    return ((rows // cell + columns // cell) % 2).astype(np.bool_)


@pytest.mark.parametrize(("height", "width", "resolution"), [(96, 160, 64), (200, 120, 96), (48, 80, 96), (64, 64, 64)])
def test_a_pattern_stays_aligned_through_image_and_mask(height: int, width: int, resolution: int) -> None:
    mask = grid(height, width, 24)
    image = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[:, :, None], 3, axis=2)
    crop = choose_crop(mask)
    drawn = apply_to_image(image, crop, resolution)[:, :, 0] > 127
    pooled = apply_to_mask(mask, crop, resolution)
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
    crop = choose_crop(mask)
    assert np.array_equal(apply_to_image(small, crop, 48), apply_to_image(large, crop, 48))


def test_a_reference_of_another_shape_is_cropped_in_its_middle() -> None:
    crop = choose_crop(np.ones((64, 128), np.bool_))
    other = np.zeros((128, 64, 3), np.uint8)
    other[32:96] = 200
    assert (apply_to_image(other, crop, 64) == 200).all()


@given(
    st.integers(16, 90), st.integers(16, 90), st.data(), st.sampled_from([16, 32, 48])
)  # fmt: skip
def test_the_crop_holds_the_whole_edit_where_it_can_and_loses_no_pixel_of_it(
    height: int, width: int, data: st.DataObject, resolution: int
) -> None:
    side = min(height, width)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask = np.zeros((height, width), np.bool_)
    mask[top : top + data.draw(st.integers(1, side)), left : left + data.draw(st.integers(1, side))] = True
    crop = choose_crop(mask)
    assert 0 <= crop.left <= width - side and 0 <= crop.top <= height - side
    part = mask[crop.top : crop.top + side, crop.left : crop.left + side]
    assert part.sum() == mask.sum()
    cells = latent_cells(mask, crop, resolution)
    assert cells.shape == (resolution // 8, resolution // 8)
    assert cells.any()


def test_without_resizing_the_cells_are_the_pooled_mask() -> None:
    mask = np.random.default_rng(0).random((64, 64)) < 0.02
    assert np.array_equal(latent_cells(mask, choose_crop(mask), 64), max_pool(mask))


def test_an_edit_in_the_middle_leaves_the_crop_in_the_middle() -> None:
    mask = np.zeros((64, 128), np.bool_)
    mask[20:40, 60:80] = True
    assert choose_crop(mask).left == 32
    mask[:, 120] = True
    assert choose_crop(mask).left == 57
