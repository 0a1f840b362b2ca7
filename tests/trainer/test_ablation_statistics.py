"""Error bars: they hold what they promise, find what was planted, and find nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from trainer.ablation.statistics import bootstrap, compare, corrected, holm, widen_seeds


def test_holm_by_hand():
    # Holm (1979): sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, then never falling.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), max_size=20))
def test_holm_is_between_the_raw_and_the_bonferroni_value_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for raw, value in zip(p_values, adjusted, strict=True):
        assert min(1.0, raw) <= value <= min(1.0, raw * len(p_values)) + 1e-12
    ranked = [value for _, value in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


@given(npst.arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(1, 6)), elements=st.floats(-5, 5)))
def test_seeds_are_widened_about_the_same_mean(values):
    widened = widen_seeds(values)
    assert widened.mean() == pytest.approx(values.mean(), abs=1e-9)
    assert np.allclose(widened - widened.mean(axis=1, keepdims=True), values - values.mean(axis=1, keepdims=True))
    assert widened.mean(axis=1).std() >= values.mean(axis=1).std() - 1e-9


def test_a_difference_that_is_always_the_same_is_certain_and_none_is_none():
    certain = bootstrap(np.full((3, 10), 0.2), 1000)
    assert (certain.mean, certain.low, certain.high) == pytest.approx((0.2, 0.2, 0.2))
    assert certain.p_value == pytest.approx(2 / 1001)
    nothing = bootstrap(np.zeros((3, 10)), 1000)
    assert (nothing.low, nothing.high, nothing.p_value) == (0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="finite"):
        bootstrap(np.full((2, 2), np.nan))


@pytest.mark.parametrize(("of_seeds", "of_items", "noise"), [(1.0, 0.0, 0.5), (0.0, 1.0, 0.5), (0.4, 0.6, 1.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(of_seeds, of_items, noise):
    random = np.random.default_rng(0)
    held = 0
    for draw in range(200):
        values = of_seeds * random.normal(size=(3, 1)) + of_items * random.normal(size=(1, 30))
        estimate = bootstrap(values + noise * random.normal(size=(3, 30)), 400, draw)
        held += estimate.low <= 0.0 <= estimate.high
    assert held / 200 >= 0.88


def test_a_planted_effect_is_found_and_a_planted_null_is_not():
    random = np.random.default_rng(1)
    base = random.normal(size=(3, 60)) + 3 * random.normal(size=(1, 60))
    arms = {
        "one": base,
        "same": base.copy(),
        "worse": base + 0.5 + 0.1 * random.normal(size=base.shape),
        "noisy": base + 0.1 * random.normal(size=base.shape),
    }
    found = {(one.first, one.second): one for one in corrected(compare(arms, 2000))}
    assert found["one", "worse"].significant and found["one", "worse"].difference.mean == pytest.approx(-0.5, abs=0.05)
    assert not found["one", "same"].significant and found["one", "same"].adjusted_p == 1.0
    assert not found["one", "noisy"].significant
    assert len(found) == 6 and all((one.seeds, one.items) == (3, 60) for one in found.values())


def test_arms_measured_on_other_items_are_refused():
    with pytest.raises(ValueError, match="same seeds and items"):
        compare({"one": np.zeros((2, 3)), "two": np.zeros((2, 4))})
