"""Which checkpoints stay: the newest, and the best by a metric of the validation. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def best_step(measured: Mapping[int, float], lower_is_better: bool) -> int | None:
    """The step with the best value, the earliest among equals; None where nothing was measured.

    Args:
        measured: step -> the metric's value there; a value that is no number is never the best.
    """
    values = {step: value for step, value in measured.items() if value == value}
    sign = 1.0 if lower_is_better else -1.0
    return min(sorted(values), key=lambda step: sign * values[step], default=None)


def steps_to_delete(
    steps: Sequence[int], measured: Mapping[int, float], keep_last: int, lower_is_better: bool
) -> list[int]:
    """The checkpoints that are neither among the last `keep_last` nor the best.

    Args:
        steps: of the complete checkpoints, ascending.
        measured: as for `best_step`.
        keep_last: at least 1.
    """
    kept = {
        *steps[-keep_last:],
        best_step({step: measured[step] for step in steps if step in measured}, lower_is_better),
    }
    return [step for step in steps if step not in kept]
