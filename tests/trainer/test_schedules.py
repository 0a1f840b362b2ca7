"""Learning-rate schedules: exact values, and the rules a config must keep."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from training_data import config_for

from schemas.errors import ConfigError
from trainer.config import TrainConfig
from trainer.optimization.schedules import learning_rate_at, share_at


def run(**optimizer: Any) -> TrainConfig:
    return config_for(
        Path("model"), Path("shards"), Path("run"), steps=10, optimizer={"learning_rate": 2.0, **optimizer}
    )


def rates(config: TrainConfig, steps: int = 12) -> list[float]:
    return [learning_rate_at(step, config) for step in range(steps)]


def test_constant_after_a_linear_warm_up() -> None:
    assert rates(run(warmup_steps=4), 6) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert rates(run(), 3) == [2.0, 2.0, 2.0]


def test_linear_falls_to_its_final_rate_and_stays() -> None:
    config = run(schedule="linear", warmup_steps=2, final_fraction=0.2)
    expected = [1.0, 2.0, *(2.0 - 0.2 * passed for passed in range(8)), 0.4, 0.4]
    assert rates(config) == pytest.approx(expected, rel=1e-14)


def test_cosine_has_its_known_points() -> None:
    config = run(schedule="cosine", schedule_steps=8)
    assert rates(config)[0] == 2.0
    assert rates(config)[4] == pytest.approx(1.0, rel=1e-14)
    assert rates(config)[2] == pytest.approx(1.0 + math.sqrt(0.5), rel=1e-14)
    assert rates(config)[8:] == [0.0] * 4


def test_polynomial_of_power_one_is_linear_and_of_power_two_its_square() -> None:
    for step in range(12):
        line = share_at(step, "linear", warmup=2, end=10, final=0.0, power=9.0)
        assert share_at(step, "polynomial", warmup=2, end=10, final=0.0, power=1.0) == line
        if step >= 2:
            assert share_at(step, "polynomial", warmup=2, end=10, final=0.0, power=2.0) == pytest.approx(line**2)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "polynomial"])
def test_a_schedule_rises_then_never_rises_again(name: Any) -> None:
    shares = [share_at(step, name, warmup=3, end=20, final=0.1, power=2.0) for step in range(40)]
    assert shares[:4] == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0, 1.0]
    assert all(later <= earlier for earlier, later in pairwise(shares[3:]))
    assert shares[20:] == pytest.approx([1.0 if name == "constant" else 0.1] * 20)


def test_a_falling_schedule_pins_its_end_and_a_constant_one_may_go_on() -> None:
    falling, longer = run(schedule="cosine"), run(schedule="cosine").model_copy(update={"steps": 20})
    assert falling.identity() != longer.identity()
    pinned = run(schedule="cosine", schedule_steps=10)
    assert pinned.identity() == pinned.model_copy(update={"steps": 20}).identity() == falling.identity()
    assert run().identity() == run().model_copy(update={"steps": 20}).identity()


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("optimizer", {"schedule": "linear", "warmup_steps": 10}, "warmup_steps"),
        ("optimizer", {"name": "prodigy", "learning_rate": 1e-4}, "factor of the rate"),
        ("optimizer", {"name": "sgd"}, "adamw"),
        ("optimizer", {"betas": [0.9, 1.0]}, "less than 1"),
        ("optimizer", {"final_fraction": 1.5}, "final_fraction"),
        ("engine", {"zero_stage": 3, "compile": "inductor"}, "zero_stage 0, 1 or 2"),
        ("engine", {"offload_optimizer": True}, "zero_stage 1, 2 or 3"),
        ("engine", {"zero_stage": 2, "offload_parameters": True}, "needs zero_stage 3"),
        ("engine", {"checkpoint_every": 2}, "gradient_checkpointing"),
        ("engine", {"accumulate_in_float32": True, "zero_stage": 2}, "bfloat16"),
        ("engine", {"attention": "flash"}, r"batch_size = 2: must be 1"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(section: str, values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        config_for(Path("model"), Path("shards"), Path("run"), **{section: values})


def test_host_memory_is_for_adamw() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name = 'adamw_8bit': must be adamw"):
        config_for(
            Path("model"),
            Path("shards"),
            Path("run"),
            optimizer={"name": "adamw_8bit"},
            engine={"zero_stage": 2, "offload_optimizer": True},
        )
