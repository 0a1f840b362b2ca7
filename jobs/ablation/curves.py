"""Curves of the ablation's report: what the weighting functions are, and how the runs learnt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.ablation.config import AblationConfig
from jobs.ablation.runs import Run
from jobs.report.sections import Curve, Section
from schemas.weighting import WEIGHTINGS, region_weight
from trainer.run_folder import LOG

Points = list[tuple[float, float]]

_FRACTIONS = np.geomspace(0.001, 1.0, 120)
_SMOOTHED = 20
"""Steps that a point of a learning curve is the mean of."""
_SHOWN = 6
"""Arms whose learning curves are shown: as many as there are colours."""


def weighting_curves(config: AblationConfig) -> list[Section]:
    """w(x), the mean weight m(f) = f w + 1 - f, and the share of the loss inside the edit, f w / m, where the error is
    the same everywhere."""
    caps = {name: config.cap if one.requires_cap else None for name, one in WEIGHTINGS.items()}
    weights = {name: region_weight(name, 1.0 / _FRACTIONS, cap) for name, cap in caps.items()}
    means = {name: _FRACTIONS * weight + 1.0 - _FRACTIONS for name, weight in weights.items()}
    shares = {name: _FRACTIONS * weight / means[name] for name, weight in weights.items()}
    label = "edited area in powers of ten of the image (-2 is 1 %)"
    formulas = ", ".join(f"{one.name} {one.formula}" for one in WEIGHTINGS.values())
    return [
        Curve(_over_area(weights), label, "weight of an edited cell", log_y=True, title="What the functions weigh",
              caption=f"w(x) with x = 1 / f: {formulas}; exponential_root is capped at {config.cap:g}."),
        Curve(_over_area(means), label, "mean weight of a cell", log_y=True,
              caption="m(f) = f w + 1 - f: how much larger the loss as a whole becomes, which a renormalised arm takes "
              "out."),
        Curve(_over_area(shares), label, "share of the loss inside the edit",
              caption="Where the error is the same everywhere."),
    ]  # fmt: skip


def learning_curves(runs: Sequence[Run]) -> list[Section]:
    """Unweighted training loss inside and outside the edit over the steps, the mean over an arm's seeds."""
    sections: list[Section] = []
    arms = list(dict.fromkeys(run.arm for run in runs))
    shown = arms if len(arms) <= _SHOWN else [arm for arm in arms if not arm.endswith("_per_sample")][:_SHOWN]
    left = "" if len(shown) == len(arms) else f" Of {len(arms)} arms the first {len(shown)} that are not renormalised."
    for place, region in enumerate(("inside", "outside")):
        series = {arm: _curve([run for run in runs if run.arm == arm], f"loss_{region}") for arm in shown}
        sections.append(
            Curve(
                series,
                "step",
                f"training loss {region} the edit",
                log_y=True,
                title="How the arms learn" if place == 0 else "",
                caption=f"Unweighted, means over seeds and {_SMOOTHED} steps; inside by the masks trained on.{left}",
            )
        )
    return sections


def _over_area(values: dict[str, np.ndarray]) -> dict[str, Points]:
    places = np.log10(_FRACTIONS).tolist()
    return {name: list(zip(places, one.tolist(), strict=True)) for name, one in values.items()}


def mean_of_log(runs: Sequence[Run], name: str) -> float | None:
    """The mean of a figure of log.jsonl over all steps of some runs; None where it stands nowhere."""
    values = [line[name] for run in runs for line in _log(run) if line.get(name) is not None]
    return float(np.mean(values)) if values else None


def _log(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / LOG).read_text(encoding="utf-8").splitlines()]


def _curve(runs: Sequence[Run], name: str) -> Points:
    logs = [_log(run) for run in runs]
    steps = min(len(log) for log in logs)
    values = np.array(
        [[line.get(name) if line.get(name) is not None else np.nan for line in log[:steps]] for log in logs]
    )
    points = []
    for start in range(0, steps, _SMOOTHED):
        part = values[:, start : start + _SMOOTHED]
        if np.isfinite(part).any():
            points.append((float(start + part.shape[1] / 2), float(np.nanmean(part))))
    return points
