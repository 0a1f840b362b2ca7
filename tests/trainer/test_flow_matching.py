"""Timesteps and noise."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.config import TimestepConfig
from trainer.loss.flow_matching import noised, sample_noise, sample_timesteps, shift_mu, velocity

CONFIG = TimestepConfig()


def test_mu_is_linear_between_its_two_points() -> None:
    assert shift_mu(256, CONFIG) == pytest.approx(0.5)
    assert shift_mu(4096, CONFIG) == pytest.approx(1.15)
    assert shift_mu(2176, CONFIG) == pytest.approx(0.825)


def test_the_shift_is_the_published_formula() -> None:
    plain = sample_timesteps(0, range(50), 1024, TimestepConfig(base_shift=0.0, max_shift=0.0))
    mu = shift_mu(1024, CONFIG)
    expected = math.exp(mu) / (math.exp(mu) + 1 / plain - 1)
    torch.testing.assert_close(sample_timesteps(0, range(50), 1024, CONFIG), expected)


def test_timesteps_are_a_shifted_logit_normal() -> None:
    timesteps = sample_timesteps(0, range(4000), 1024, CONFIG)
    assert timesteps.dtype == torch.float32
    assert float(timesteps.min()) > 0 and float(timesteps.max()) < 1
    logits = torch.logit(timesteps.double())
    assert float(logits.mean()) == pytest.approx(shift_mu(1024, CONFIG), abs=0.06)
    assert float(logits.std()) == pytest.approx(1.0, abs=0.05)


def test_noise_and_timesteps_depend_on_the_own_position_only() -> None:
    together = sample_noise(3, [10, 11, 12], (4, 2, 2))
    assert torch.equal(together[1], sample_noise(3, [11], (4, 2, 2))[0])
    assert torch.equal(sample_timesteps(3, [10, 11, 12], 256, CONFIG)[2:], sample_timesteps(3, [12], 256, CONFIG))
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together[0], sample_noise(4, [10], (4, 2, 2))[0])


def test_the_target_is_the_slope_of_the_path() -> None:
    latents, noise = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2)
    ends = noised(latents, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(ends[0], latents[0])
    assert torch.equal(ends[1], noise[1])
    step = noised(latents, noise, torch.tensor([0.6, 0.6])) - noised(latents, noise, torch.tensor([0.2, 0.2]))
    torch.testing.assert_close(step / 0.4, velocity(latents, noise))
