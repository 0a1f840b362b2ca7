"""Which samples to look at: a seeded choice that shows every mask status at least once where there is room.

Proportional choice alone would hide the rare statuses, which are those a curator looks for; equal shares would make
them look common. So every status gets one place, and the rest go by share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def choose(strata: Sequence[str | None], count: int, seed: int) -> list[int]:
    """Positions of the samples to show.

    Args:
        strata: what each sample is counted under (its mask status; None for samples without one).
        count: how many to choose, >= 1.
        seed: other seeds choose other samples; the same one the same, on every machine and with every version.

    Returns:
        `min(count, len(strata))` different positions, ascending.
    """
    names = np.asarray(["" if name is None else name for name in strata], dtype=np.str_)
    kinds, membership = np.unique(names, return_inverse=True)
    priority = _priorities(len(names), seed)
    chosen: list[int] = []
    for kind, places in enumerate(_shares(np.bincount(membership, minlength=len(kinds)).tolist(), count)):
        members = np.flatnonzero(membership == kind)
        chosen.extend(members[np.argsort(priority[members], kind="stable")[:places]].tolist())
    return sorted(chosen)


def _shares(sizes: list[int], count: int) -> list[int]:
    """Places for each stratum: one each, largest stratum first, then wherever the share is furthest from met."""
    total, places = sum(sizes), [0] * len(sizes)
    for _ in range(min(count, total)):
        open_strata = [kind for kind, size in enumerate(sizes) if places[kind] < size]
        best = max(open_strata, key=lambda kind: (places[kind] == 0, sizes[kind] / (places[kind] + 1), -kind))
        places[best] += 1
    return places


def _priorities(size: int, seed: int) -> npt.NDArray[np.uint64]:
    """(size,) uint64: SplitMix64 (Steele, Lea, Flood 2014) of the position, so that no library version matters."""
    mixed = np.arange(1, size + 1, dtype=np.uint64) + np.uint64(seed % 2**31) * np.uint64(2**32)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
