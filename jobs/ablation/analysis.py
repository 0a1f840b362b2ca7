"""Figures of every arm with their intervals, and all arms held against each other by the primary metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.ablation.config import AblationConfig
from jobs.ablation.results import Results
from trainer.ablation.figures import arrange, loss_by_item
from trainer.ablation.statistics import Comparison, Estimate, compare, corrected, estimates
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

    def comparison(self, first: str, second: str) -> Comparison:
        """How `first` stands to `second`; the difference is first - second.

        Raises:
            KeyError: the two were not compared.
        """
        for one in self.comparisons:
            if (one.first, one.second) == (first, second):
                return one
            if (one.first, one.second) == (second, first):
                return turned(one)
        raise KeyError((first, second))


@dataclass(frozen=True)
class Heeding:
    """What the instruction does for one arm, in held-out loss inside the edit.

    Args:
        own, other: with the item's own instruction, and with another item's.
        difference: other - own, paired.
    """

    own: Estimate
    other: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Analysis:
    """What the ablation found.

    Args:
        primary: the metrics that decide: held-out loss, and the copy-rate where edits were sampled.
        by_bin: (region, area bin) -> held-out loss; what has no item is left out.
        edits: further figures of sampled edits, by name.
        heeding: arm -> what the instruction does; empty where it was not measured.
        heeding_items: items that this was taken on.
    """

    primary: list[Metric]
    by_bin: dict[tuple[str, str], Metric]
    edits: dict[str, Metric]
    heeding: dict[str, Heeding] = field(default_factory=dict)
    heeding_items: int = 0


def analyse(config: AblationConfig, results: Results) -> Analysis:
    """Estimate and compare.

    Holm's correction goes over every pair of arms and every primary metric together.

    Raises:
        InputError: a run lacks an item that another has.
    """
    arms, seeds, chosen = list(config.all_arms()), list(config.seeds), config.primary

    def loss(region: str, bins: list[str] | None) -> dict[str, Values]:
        return loss_by_item(results.losses, region, bins, chosen.weights, arms, seeds)

    deciding = {_loss_name(config): loss(chosen.region, list(chosen.area_bins))}
    of_edits = {} if results.edits is None else _edit_values(results.edits, chosen.weights, arms, seeds)
    if COPY_RATE in of_edits:
        deciding[COPY_RATE] = of_edits.pop(COPY_RATE)
    deciding = {name: values for name, values in deciding.items() if _items(values)}
    by_bin = {
        (region, name): values for region in REGIONS for name in AREA_BINS if _items(values := loss(region, [name]))
    }
    heeding, items = _heeding(config, results, arms, seeds)
    return Analysis(
        _compared(deciding, config),
        {place: _metric(" ".join(place), values, config) for place, values in by_bin.items()},
        {name: _metric(name, values, config) for name, values in of_edits.items() if _items(values)},
        heeding,
        items,
    )


def turned(comparison: Comparison) -> Comparison:
    """The same comparison, the other way round."""
    one = comparison.difference
    difference = replace(one, mean=-one.mean, low=-one.high, high=-one.low)
    return replace(comparison, first=comparison.second, second=comparison.first, difference=difference)


def _heeding(
    config: AblationConfig, results: Results, arms: list[str], seeds: list[int]
) -> tuple[dict[str, Heeding], int]:
    if results.others is None:
        return {}, 0
    weights, keys = config.primary.weights, pc.unique(results.others["key"])
    same_items = results.losses.filter(pc.is_in(results.losses["key"], keys))
    own = loss_by_item(same_items, "inside", None, weights, arms, seeds)
    other = loss_by_item(results.others, "inside", None, weights, arms, seeds)
    of_own, of_other = estimates(own, config.replicates), estimates(other, config.replicates)
    of_both = estimates({arm: other[arm] - own[arm] for arm in arms}, config.replicates)
    found = {arm: Heeding(of_own[arm], of_other[arm], of_both[arm]) for arm in arms}
    return found, _items(own)


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
    return Metric(name, estimates(arms, config.replicates), _items(arms), name not in _HIGHER_IS_BETTER)


def _items(arms: Mapping[str, Values]) -> int:
    return next(iter(arms.values())).shape[1]


COPY_RATE = "copy-rate"
_PSNR = "PSNR against the target inside the edit (dB)"
_SSIM = "SSIM with the target inside the edit"
_CLIP = "CLIP likeness of edit and target"
_EDIT_COLUMNS = {
    COPY_RATE: "is_copy",
    "distance to the target inside the edit (L1)": "inside_to_target",
    _PSNR: "inside_psnr",
    _SSIM: "inside_ssim",
    "LPIPS to the target inside the edit": "inside_lpips",
    _CLIP: "inside_clip",
    "distance to the reference outside the edit (L1)": "outside_to_reference",
}
_HIGHER_IS_BETTER = {_PSNR, _SSIM, _CLIP}


def _edit_values(edits: pa.Table, weights: str, arms: list[str], seeds: list[int]) -> dict[str, dict[str, Values]]:
    """Figure of the sampled edits -> arm -> (S, I); an item is a sample with a seed of its starting noise."""
    found = {}
    kept = edits.filter(pc.equal(edits["weights"], weights))
    items = pc.binary_join_element_wise(kept["key"], pc.cast(kept["noise_seed"], pa.string()), "/")
    for name, column in _EDIT_COLUMNS.items():
        if column not in kept.column_names:
            continue
        told = pc.is_valid(kept[column])
        part = kept.filter(told)
        values = pc.cast(part[column], pa.float64())
        found[name] = arrange(part["arm"], part["seed"], items.filter(told), values, arms, seeds)
    return found
