"""Copies of the reference are told from edits, also behind what the codec loses."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.validation.copying import change_share, is_copy, mean_difference


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    reference = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    edited = np.zeros((64, 64), np.bool_)
    edited[16:40, 24:48] = True
    target = reference.copy()
    target[edited] = 255 - target[edited] // 2
    return reference, target, edited


def noisy(image: np.ndarray, amount: int) -> np.ndarray:
    noise = np.random.default_rng(5).integers(-amount, amount + 1, image.shape)
    return np.clip(image.astype(np.int16) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.5])
def test_planted_copies_and_planted_edits_are_told_apart(threshold: float) -> None:
    reference, target, edited = scene()
    for copy in (reference, noisy(reference, 6)):
        assert is_copy(change_share(copy, reference, target, edited), threshold) is True
    for edit in (target, noisy(target, 6), 255 - reference):
        assert is_copy(change_share(edit, reference, target, edited), threshold) is False


def test_what_changes_outside_the_edit_does_not_count() -> None:
    reference, target, edited = scene()
    spoilt = reference.copy()
    spoilt[~edited] = 0
    assert change_share(spoilt, reference, target, edited) == 0.0


def test_the_share_grows_with_the_way_to_the_target_and_the_threshold_is_inclusive() -> None:
    reference, target, edited = scene()
    half = ((reference.astype(np.uint16) + target) // 2).astype(np.uint8)
    share = change_share(half, reference, target, edited)
    assert share == pytest.approx(0.5, abs=0.02)
    assert is_copy(share, share) is True and is_copy(share, share - 1e-6) is False
    assert change_share(target, reference, target, edited) == 1.0


def test_where_nothing_is_to_change_nothing_is_told() -> None:
    reference, target, edited = scene()
    assert change_share(reference, reference, reference, edited) is None
    assert change_share(reference, reference, target, np.zeros_like(edited)) is None
    assert is_copy(None, 0.2) is None and mean_difference(reference, target, np.zeros_like(edited)) is None
