"""PSNR and SSIM of a region agree with scikit-image, and see nothing of what lies elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from trainer.validation.similarity import BEST_PSNR, psnr, ssim


def pair(side: int = 48) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    one = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
    other = np.clip(one.astype(np.int16) + generator.integers(-30, 31, one.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((side, side), np.bool_)
    mask[8:24, 16:40] = True
    return one, other, mask


def test_over_the_whole_picture_both_are_what_scikit_image_says() -> None:
    one, other, mask = pair()
    everywhere = np.ones_like(mask)
    assert psnr(one, other, everywhere) == pytest.approx(peak_signal_noise_ratio(one, other, data_range=255))
    _, alike = structural_similarity(
        one, other, channel_axis=2, gaussian_weights=True, use_sample_covariance=False, data_range=255, full=True
    )
    assert ssim(one, other, everywhere) == pytest.approx(float(alike.mean()), abs=1e-6)
    assert ssim(one, other, mask) == pytest.approx(float(alike[mask].mean()), abs=1e-6)


def test_a_region_is_judged_by_itself() -> None:
    one, other, mask = pair()
    spoilt = other.copy()
    spoilt[~mask] = 0
    assert psnr(one, spoilt, mask) == psnr(one, other, mask)
    far = np.zeros_like(mask)
    far[8:24, 16:40] = True
    spoilt = other.copy()
    # Further than the window reaches.
    spoilt[30:] = 0
    assert ssim(one, spoilt, far) == pytest.approx(ssim(one, other, far))


def test_equal_pictures_are_best_and_an_empty_region_has_no_figure() -> None:
    one, other, mask = pair()
    assert psnr(one, one, mask) == BEST_PSNR and ssim(one, one, mask) == pytest.approx(1.0)
    assert psnr(one, other, np.zeros_like(mask)) is None and ssim(one, other, np.zeros_like(mask)) is None
    closest = one.copy()
    closest[10, 20, 0] ^= 1
    assert psnr(one, closest, mask) == BEST_PSNR
