"""Paired differences between arms, with intervals that know of seeds and items. Pure arithmetic on arrays.

Every arm of a seed shares initialisation, data order, noise and timesteps, and every arm is measured on the same items,
so two arms are compared by their difference on the same seed and item. A replicate of the bootstrap draws seeds, and
items, with replacement, each independently of the other (the pigeonhole bootstrap for crossed effects, Owen, "The
pigeonhole bootstrap", Ann. Appl. Stat. 2007): an item that is hard in every seed is then not counted once a seed.

A bootstrap over three seeds is far too narrow where seeds differ: it knows neither that a variance of three values is
low by a third, nor that it is itself uncertain. The effects of seeds are therefore widened by sqrt(S / (S - 1)) times
t(S - 1) / z at the interval's level, the expansion of Hesterberg ("What Teachers Should Know About the Bootstrap",
2015).

Shape legend: S seeds; I items; R replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]

LEVEL = 0.95
"""Of the intervals."""
_CHUNK = 512
"""Replicates worked on at once: bounds the memory at _CHUNK x I float64."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and items.

    Args:
        mean: over seeds and items.
        low, high: of the 95 % interval.
        p_value: two-sided, of the mean being 0; never 0 itself (at least 2 / (R + 1)).
    """

    mean: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """How one arm differs from another in one metric.

    Args:
        first, second: the arms; the difference is first - second.
        difference: the estimate.
        adjusted_p: its p-value, after `corrected` adjusted for all comparisons made together.
        seeds, items: how many were compared.
    """

    first: str
    second: str
    difference: Estimate
    adjusted_p: float
    seeds: int
    items: int

    @property
    def significant(self) -> bool:
        """Whether the difference stands at 5 % after the correction, and its interval leaves 0 out."""
        return self.adjusted_p < 1.0 - LEVEL and not self.difference.low <= 0.0 <= self.difference.high


def bootstrap(values: Values, replicates: int = 10_000, seed: int = 0) -> Estimate:
    """The mean of a (S, I) array, with its interval.

    Args:
        values: finite; S >= 1 seeds, I >= 1 items. With one seed the interval speaks of items alone.
        replicates: R >= 100.
        seed: of the draws; the same seed gives the same estimate.

    Raises:
        ValueError: another shape, or a value that is not finite.
    """
    return estimates({"": values}, replicates, seed)[""]


def estimates(arms: Mapping[str, Values], replicates: int = 10_000, seed: int = 0) -> dict[str, Estimate]:
    """As `bootstrap`, of several arrays of one shape, all from the same draws."""
    drawn = _drawn_means(arms, replicates, seed)
    return {name: _estimate(float(values.mean()), drawn[name]) for name, values in arms.items()}


def widen_seeds(values: Values) -> Values:
    """The array with each seed's deviation from the grand mean widened for the small number of seeds; the grand mean
    stays, and so do the differences between the items of a seed."""
    seeds = values.shape[0]
    if seeds == 1:
        return values
    normal = stats.norm.ppf((1 + LEVEL) / 2)
    factor = np.sqrt(seeds / (seeds - 1)) * stats.t.ppf((1 + LEVEL) / 2, seeds - 1) / normal
    deviation = values.mean(axis=1, keepdims=True) - values.mean()
    return np.asarray(values + (factor - 1.0) * deviation)


def compare(arms: Mapping[str, Values], replicates: int = 10_000, seed: int = 0) -> list[Comparison]:
    """Every pair of arms, in the order of `arms`, not corrected yet (`corrected`).

    Args:
        arms: name -> (S, I) metric, the same seeds and items in the same places for every arm.

    Raises:
        ValueError: the arms have different shapes.
    """
    drawn = _drawn_means(arms, replicates, seed)
    found = []
    for first, second in combinations(arms, 2):
        # A replicate is linear in the values: that of a difference is the difference of two replicates.
        mean = float((arms[first] - arms[second]).mean())
        estimate = _estimate(mean, drawn[first] - drawn[second])
        found.append(Comparison(first, second, estimate, estimate.p_value, *arms[first].shape))
    return found


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with p-values adjusted for all of them together (`holm`), in the order given."""
    adjusted = holm([one.difference.p_value for one in comparisons])
    return [replace(one, adjusted_p=value) for one, value in zip(comparisons, adjusted, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given, each at most 1 (Holm, "A simple sequentially rejective multiple test
    procedure", Scand. J. Stat. 1979)."""
    count = len(p_values)
    adjusted = [0.0] * count
    largest = 0.0
    for rank, place in enumerate(sorted(range(count), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _estimate(mean: float, drawn: Values) -> Estimate:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return Estimate(mean, float(low), float(high), min(1.0, 2 * (1 + beyond) / (len(drawn) + 1)))


def _drawn_means(arms: Mapping[str, Values], replicates: int, seed: int) -> dict[str, Values]:
    """(R,) means of every arm, replicate by replicate from the same seeds and items."""
    shapes = {values.shape for values in arms.values()}
    if len(shapes) != 1:
        raise ValueError(f"arms must have been measured on the same seeds and items; shapes are {sorted(shapes)}")
    (shape,) = shapes
    if len(shape) != 2 or 0 in shape or not all(np.isfinite(values).all() for values in arms.values()):
        raise ValueError(f"values must be finite (seeds, items) arrays; the shape is {shape}")
    seeds, items = shape
    stacked = np.stack([widen_seeds(values) for values in arms.values()])  # (A, S, I)
    random = np.random.default_rng(seed)
    parts = []
    for start in range(0, replicates, _CHUNK):
        count = min(_CHUNK, replicates - start)
        seed_shares = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds  # (r, S)
        item_shares = random.multinomial(items, np.full(items, 1 / items), size=count) / items  # (r, I)
        parts.append(((stacked @ item_shares.T) * seed_shares.T).sum(axis=1))  # (A, r)
    return dict(zip(arms, np.concatenate(parts, axis=1), strict=True))
