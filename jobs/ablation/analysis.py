"""Figures of every arm with their intervals, and all arms held against each other by the primary metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.ablation.config import AblationConfig
from trainer.ablation.figures import arrange, loss_by_item
from trainer.ablation.statistics import Comparison, Estimate, bootstrap, compare, corrected
from trainer.validation.bins import AREA_BINS
from trainer.validation.regions import REGIONS

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One metric of every arm.

    Args:
        name: for people.
        arms: arm -> estimate.
        items: how many items it was taken on.
        lower_is_better: which way is good.
        comparisons: every pair of arms, where this metric decides; empty otherwise.
    """

    name: str
    arms: Mapping[str, Estimate]
    items: int
    lower_is_better: bool = True
    comparisons: list[Comparison] = field(default_factory=list)


@dataclass(frozen=True)
class Analysis:
    """What the ablation found.

    Args:
        primary: the metrics that decide: held-out loss, and the copy-rate where edits were sampled.
        by_bin: (region, area bin) -> held-out loss; what has no item is left out.
        edits: further figures of sampled edits, by name.
    """

    primary: list[Metric]
    by_bin: dict[tuple[str, str], Metric]
    edits: dict[str, Metric]


def analyse(config: AblationConfig, losses: pa.Table, edits: pa.Table | None) -> Analysis:
    """Estimate and compare.

    Holm's correction goes over every pair of arms and every primary metric together.

    Raises:
        InputError: a run lacks an item that another has.
    """
    arms, seeds, chosen = list(config.all_arms()), list(config.seeds), config.primary

    def loss(region: str, bins: list[str] | None) -> dict[str, Values]:
        return loss_by_item(losses, region, bins, chosen.weights, arms, seeds)

    deciding = {_loss_name(config): loss(chosen.region, list(chosen.area_bins))}
    of_edits = {} if edits is None else _edit_values(edits, chosen.weights, arms, seeds)
    if "copy-rate" in of_edits:
        deciding["copy-rate"] = of_edits.pop("copy-rate")
    deciding = {name: values for name, values in deciding.items() if _items(values)}
    by_bin = {
        (region, name): values for region in REGIONS for name in AREA_BINS if _items(values := loss(region, [name]))
    }
    return Analysis(
        _compared(deciding, config),
        {place: _metric(" ".join(place), values, config) for place, values in by_bin.items()},
        {name: _metric(name, values, config) for name, values in of_edits.items() if _items(values)},
    )


def _loss_name(config: AblationConfig) -> str:
    bins = ", ".join(AREA_BINS[name] for name in config.primary.area_bins)
    return f"held-out loss {config.primary.region} the edit, edited area {bins}"


def _compared(metrics: Mapping[str, Mapping[str, Values]], config: AblationConfig) -> list[Metric]:
    """Metrics with comparisons, all of them corrected together."""
    by_metric = {name: compare(arms, config.replicates) for name, arms in metrics.items()}
    together = iter(corrected([one for comparisons in by_metric.values() for one in comparisons]))
    return [
        replace(_metric(name, metrics[name], config), comparisons=[next(together) for _ in comparisons])
        for name, comparisons in by_metric.items()
    ]


def _metric(name: str, arms: Mapping[str, Values], config: AblationConfig) -> Metric:
    return Metric(name, {arm: bootstrap(values, config.replicates) for arm, values in arms.items()}, _items(arms))


def _items(arms: Mapping[str, Values]) -> int:
    return next(iter(arms.values())).shape[1]


_EDIT_COLUMNS = {
    "copy-rate": "is_copy",
    "distance to the target inside the edit (L1)": "inside_to_target",
    "distance to the reference outside the edit (L1)": "outside_to_reference",
}


def _edit_values(edits: pa.Table, weights: str, arms: list[str], seeds: list[int]) -> dict[str, dict[str, Values]]:
    """Figure of the sampled edits -> arm -> (S, I); an item is a sample with a seed of its starting noise."""
    found = {}
    kept = edits.filter(pc.equal(edits["weights"], weights))
    items = pc.binary_join_element_wise(kept["key"], pc.cast(kept["noise_seed"], pa.string()), "/")
    for name, column in _EDIT_COLUMNS.items():
        told = pc.is_valid(kept[column])
        part = kept.filter(told)
        values = pc.cast(part[column], pa.float64())
        found[name] = arrange(part["arm"], part["seed"], items.filter(told), values, arms, seeds)
    return found
