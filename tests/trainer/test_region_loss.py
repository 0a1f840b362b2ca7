"""The region-weighted loss and its one reduction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from schemas.masks import max_pool
from schemas.weighting import WEIGHTINGS
from trainer.config import WeightingConfig
from trainer.loss.reduction import global_count, local_objective, report, sums
from trainer.loss.region_loss import error_map, region_weights


def weighting(name: str = "logarithmic", **changes: object) -> WeightingConfig:
    return WeightingConfig.model_validate({"function": name, "max_weight": 64.0, **changes})


def random_cells(generator: np.random.Generator, samples: int) -> list[np.ndarray]:
    cells = [generator.random((6, 6)) < 0.2 for _ in range(samples)]
    for mask in cells:
        mask[0, 0] = True
    return cells


def loss_of(errors: torch.Tensor, weights: torch.Tensor, config: WeightingConfig) -> torch.Tensor:
    usable = torch.ones(len(errors), dtype=torch.bool)
    return local_objective(errors, weights, usable, float(global_count([weights], [usable], config)))


@pytest.mark.parametrize("normalise", ["none", "per_sample", "per_batch"])
@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_whole_image_edit_is_the_plain_loss_to_the_last_bit(name: str, normalise: str) -> None:
    errors = torch.rand(3, 1, 6, 6)
    config = weighting(name, normalise=normalise)
    weights = region_weights([np.ones((6, 6), np.bool_)] * 3, config)
    plain = region_weights([np.ones((6, 6), np.bool_)] * 3, weighting("uniform"))
    assert torch.equal(loss_of(errors, weights, config), loss_of(errors, plain, weighting("uniform")))


def test_error_map_is_the_channel_mean_per_cell() -> None:
    prediction, target = torch.randn(2, 16, 4, 6), torch.randn(2, 16, 4, 6)
    errors = error_map(prediction.bfloat16(), target.bfloat16())
    assert errors.shape == (2, 1, 4, 6)
    assert errors.dtype == torch.float32
    expected = torch.nn.functional.mse_loss(prediction.bfloat16().float(), target.bfloat16().float())
    torch.testing.assert_close(errors.mean(), expected)


def test_the_edit_counts_w_times_the_background() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[:16, :16] = True
    weights = region_weights([max_pool(mask)], weighting("linear"))
    assert weights.shape == (1, 1, 8, 8)
    assert weights[0, 0, 0, 0] == 16.0
    assert weights[0, 0, 7, 7] == 1.0


def test_per_sample_weights_have_the_mean_one() -> None:
    weights = region_weights(random_cells(np.random.default_rng(0), 5), weighting(normalise="per_sample"))
    torch.testing.assert_close(weights.mean(dim=(1, 2, 3)), torch.ones(5))


@pytest.mark.parametrize("normalise", ["none", "per_sample", "per_batch"])
def test_the_loss_does_not_depend_on_how_samples_are_spread(normalise: str) -> None:
    generator = np.random.default_rng(1)
    config = weighting(normalise=normalise)
    weights = region_weights(random_cells(generator, 7), config)
    errors = torch.from_numpy(generator.random((7, 1, 6, 6))).float().requires_grad_()
    usable = torch.tensor([True, True, False, True, True, True, True])
    count = float(global_count([weights], [usable], config))
    whole = local_objective(errors, weights, usable, count)
    (gradient,) = torch.autograd.grad(whole, errors)
    parts = [slice(0, 1), slice(1, 5), slice(5, 7)]
    split_count = float(global_count([weights[part] for part in parts], [usable[part] for part in parts], config))
    assert split_count == pytest.approx(count, rel=1e-12)
    split = sum(local_objective(errors[part], weights[part], usable[part], split_count) for part in parts)
    (split_gradient,) = torch.autograd.grad(split, errors)
    torch.testing.assert_close(split, whole, rtol=1e-6, atol=0)
    torch.testing.assert_close(split_gradient, gradient, rtol=1e-6, atol=0)


def test_a_bad_sample_counts_nowhere_even_where_it_is_not_a_number() -> None:
    config = weighting()
    weights = region_weights(random_cells(np.random.default_rng(2), 3), config)
    cells = weights > 1.0
    errors = torch.rand(3, 1, 6, 6)
    errors[1] = float("nan")
    usable = torch.tensor([True, False, True])
    keep = [0, 2]
    count = float(global_count([weights], [usable], config))
    assert count == 72
    alone = local_objective(errors[keep], weights[keep], torch.ones(2, dtype=torch.bool), count)
    torch.testing.assert_close(local_objective(errors, weights, usable, count), alone, rtol=1e-6, atol=0)
    totals = report(sums(errors, weights, cells, usable, ["ok", "ok", "global"]), config)
    assert totals.samples == 2
    assert totals.loss == pytest.approx(float(alone), rel=1e-6)
    assert totals.plain == pytest.approx(float(errors[keep].mean()), rel=1e-6)
    assert totals.inside == pytest.approx(float(errors[keep][cells[keep]].mean()), rel=1e-6)
    assert totals.outside == pytest.approx(float(errors[keep][~cells[keep]].mean()), rel=1e-6)
    share = (errors * weights)[keep][cells[keep]].sum() / (errors * weights)[keep].sum()
    assert totals.share_inside == pytest.approx(float(share), rel=1e-6)
    assert totals.mean_weight == pytest.approx(float(weights[keep].mean()), rel=1e-6)
    assert totals.statuses == {"ok": 0.5, "global": 0.5}


def test_small_edits_weigh_as_the_smallest_that_is_told_apart() -> None:
    tiny, small, large = (np.zeros((10, 10), np.bool_) for _ in range(3))
    tiny[0, 0] = True
    small[:2, :5] = True
    large[:5] = True
    weights = region_weights([tiny, small, large], weighting("linear", min_edit_fraction=0.1))
    assert [float(one.max()) for one in weights] == [10.0, 10.0, 2.0]
    assert float(weights[0].sum()) == 99 + 10
    plain = region_weights([tiny], weighting("linear", max_weight=None))
    assert float(plain.max()) == 100.0
