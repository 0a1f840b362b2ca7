"""The five weighting functions: their properties, their exact values, and the release's own weights."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from schemas.images import decode_mask
from schemas.weighting import WEIGHTINGS, check_weighting, region_weight, weight_map

FOLDER = Path(__file__).parents[1] / "data" / "uniworld_expected"
CASES = [json.loads(line) for line in (FOLDER / "expected.jsonl").read_text().splitlines()]
CAP = {"exponential_root": 1e300}

EXACT = {
    # x = 1, 4, 16, 100: square roots 1, 2, 4, 10, so that every value is exact by hand.
    "uniform": [1, 1, 1, 1],
    "linear": [1, 4, 16, 100],
    "exponential_root": [1, 2, 8, 512],
    "logarithmic": [1, 3, 5, 1 + math.log2(100)],
    "quadratic_root": [1, 2, 10, 82],
}


def test_the_five_functions_are_there():
    assert set(WEIGHTINGS) == set(EXACT)


@pytest.mark.parametrize("name", EXACT)
def test_exact_values(name):
    np.testing.assert_allclose(region_weight(name, [1, 4, 16, 100], CAP.get(name)), EXACT[name], rtol=1e-15)


def test_the_exponential_root_is_not_the_garbled_print():
    assert region_weight("exponential_root", 1.0, 32) == 1.0
    assert region_weight("exponential_root", 1000.0, 1e300) == pytest.approx(1.65e9, rel=0.01)


@pytest.mark.parametrize("name", EXACT)
@given(x=st.floats(1.0, 1e6), factor=st.floats(1.0, 100.0))
def test_at_least_one_and_never_falling(name, x, factor):
    low, high = region_weight(name, [x, x * factor], CAP.get(name))
    assert 1.0 <= low <= high
    assert region_weight(name, 1.0, CAP.get(name)) == 1.0


@pytest.mark.parametrize("name", EXACT)
def test_growing_where_the_name_says_so(name):
    weights = region_weight(name, np.geomspace(1, 1e5, 200), CAP.get(name))
    steps = np.diff(weights)
    assert (steps == 0).all() if name == "uniform" else (steps > 0).all()


@pytest.mark.parametrize("name", EXACT)
def test_a_whole_image_edit_weighs_exactly_one_everywhere(name):
    for shape in ((64, 64), (37, 29)):
        weights = weight_map(np.ones(shape, bool), name, CAP.get(name))
        assert weights.dtype == np.float32
        assert (weights == 1.0).all()
        assert (weight_map(np.zeros(shape, bool), name, CAP.get(name)) == 1.0).all()


@pytest.mark.parametrize("name", EXACT)
@given(edited=st.integers(1, 143), seed=st.integers(0, 99))
def test_a_map_holds_two_weights_where_the_mask_says(name, edited, seed):
    cells = np.random.default_rng(seed).permutation(144).reshape(9, 16) < edited
    weights = weight_map(cells, name, CAP.get(name))
    assert weights.shape == (9, 16)
    assert (weights[~cells] == 1.0).all()
    assert (weights[cells] == np.float32(region_weight(name, 144 / edited, CAP.get(name)))).all()


def test_a_cap_is_required_inclusive_and_at_least_one():
    with pytest.raises(ConfigError, match="needs a cap"):
        check_weighting("exponential_root", None)
    with pytest.raises(ConfigError, match="at least 1"):
        check_weighting("linear", 0.5)
    with pytest.raises(ConfigError, match="at least 1"):
        check_weighting("linear", math.nan)
    with pytest.raises(ConfigError, match="must be one of uniform, linear"):
        check_weighting("log", None)
    np.testing.assert_array_equal(region_weight("linear", [2, 8, 9], 8), [2, 8, 8])
    assert region_weight("exponential_root", 1e300, 32) == 32


@pytest.mark.parametrize("x", [0.99, 0.0, -1.0, math.nan])
def test_an_impossible_ratio_is_an_error(x):
    with pytest.raises(ValueError, match="at least 1"):
        region_weight("logarithmic", [2.0, x])


@pytest.mark.parametrize("case", [case for case in CASES if not case["refused"]], ids=lambda case: case["name"])
def test_the_release_gives_the_same_weights(case):
    cells = decode_mask((FOLDER / f"{case['name']}.pooled.png").read_bytes())
    # The release rounds to six decimals, in float32.
    assert weight_map(cells, "logarithmic").max() == pytest.approx(case["weight_log"], abs=2e-6)
    assert weight_map(cells, "exponential_root", 1e6).max() == pytest.approx(case["weight_exp"], rel=2e-6)
