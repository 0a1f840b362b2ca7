"""Learning-rate schedules, as pure functions from the step to a share of the peak.

With W warm-up steps and N steps in all, step s (from 0) takes (s + 1) / W of the peak while s < W. After that
p = (s - W) / (N - W) runs from 0 at the first warm step to 1 at step N, from which on the rate stays at F, its final
share:

    constant    1
    linear      F + (1 - F) (1 - p)
    cosine      F + (1 - F) (1 + cos(pi p)) / 2        (Loshchilov and Hutter, arXiv:1608.03983, without restarts)
    polynomial  F + (1 - F) (1 - p)^power
"""

from __future__ import annotations

import math

from trainer.config import TrainConfig
from trainer.config.optimization import ScheduleName


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """The learning rate of a step, counted from 0."""
    optimizer = config.optimizer
    return optimizer.learning_rate * share_at(
        step,
        optimizer.schedule,
        warmup=optimizer.warmup_steps,
        end=config.schedule_end,
        final=optimizer.final_fraction,
        power=optimizer.power,
    )


def share_at(step: int, name: ScheduleName, *, warmup: int, end: int, final: float, power: float) -> float:
    """The share of the peak rate, in (0, 1] while it warms up and in [final, 1] afterwards.

    Args:
        step: counted from 0.
        warmup: warm-up steps, >= 0.
        end: the step at which the rate has fallen, > warmup; without meaning for `constant`.
        final: the share of the peak that is left then, in [0, 1].
        power: of `polynomial`, > 0.
    """
    if step < warmup:
        return (step + 1) / warmup
    if name == "constant":
        return 1.0
    passed = min((step - warmup) / (end - warmup), 1.0)
    left = 1.0 - passed
    if name == "cosine":
        left = (1.0 + math.cos(math.pi * passed)) / 2.0
    elif name == "polynomial":
        left **= power
    return final + (1.0 - final) * left
