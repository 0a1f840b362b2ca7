"""Controls that a config holds: arms that must not differ, and arms that must. Pure.

They are named before the run and say what it can see, not which arm is best, and so they are corrected for each other
and not for all pairs of arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from jobs.ablation.analysis import Metric
from jobs.ablation.config import ArmConfig
from trainer.ablation.statistics import Comparison, corrected


@dataclass(frozen=True)
class Control:
    """Two arms of which it is known beforehand how they stand to each other.

    Args:
        kind: `null`: the same arm under two names, which must not differ; `effect`: the same weights in the edit and
            dealt out over the picture at random, which must.
    """

    kind: Literal["null", "effect"]
    first: str
    second: str

    def held(self, comparison: Comparison) -> bool:
        """Whether the comparison of the two arms came out as it must."""
        return comparison.significant == (self.kind == "effect")


def controls(arms: Mapping[str, ArmConfig]) -> list[Control]:
    """Every pair of arms that is one, in the order of `arms`; the shuffled arm stands second."""
    found = []
    for (first, one), (second, other) in combinations(arms.items(), 2):
        if _placed(one) != _placed(other):
            continue
        if _is_shuffled(one) == _is_shuffled(other):
            found.append(Control("null", first, second))
        else:
            found.append(Control("effect", *((second, first) if _is_shuffled(one) else (first, second))))
    return found


def judged(arms: Mapping[str, ArmConfig], metrics: Sequence[Metric]) -> list[tuple[Control, Metric, Comparison]]:
    """Every control by every metric, with p-values corrected (Holm) for all of these together."""
    pairs = [(control, metric) for control in controls(arms) for metric in metrics]
    found = corrected([metric.comparison(control.first, control.second) for control, metric in pairs])
    return [(*pair, comparison) for pair, comparison in zip(pairs, found, strict=True)]


def _placed(arm: ArmConfig) -> ArmConfig:
    """The arm without its shuffling."""
    weighting = {name: value for name, value in arm.weighting.items() if name != "shuffled"}
    return arm.model_copy(update={"weighting": weighting})


def _is_shuffled(arm: ArmConfig) -> bool:
    return bool(arm.weighting.get("shuffled"))
