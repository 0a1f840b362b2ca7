"""Which samples to look at: a seeded choice, stratified by mask status and edited-area decile.

Proportional choice alone would hide the rare statuses, which are those a curator looks for; equal shares would make
them look common. So every status gets one place where there is room, and the rest go by share. Within a status the
places are spread over the deciles of the edited area, so that small edits are seen beside large ones: its samples, in
order of edited fraction (equal ones in their own order), are cut into ten parts whose sizes differ by at most one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DECILES = 10


def choose(
    statuses: Sequence[str | None], count: int, seed: int, fractions: Sequence[float | None] | None = None
) -> list[int]:
    """Positions of the samples to show.

    Args:
        statuses: mask status of each sample; None for samples without one, which count as one status more.
        count: how many to choose, >= 1.
        seed: other seeds choose other samples; the same one the same, on every machine and with every version.
        fractions: edited fraction of each sample, in 0..1; None (for one, or for all) where it is not known. Samples
            without one are drawn uniformly within their status.

    Returns:
        `min(count, len(statuses))` different positions, ascending.
    """
    names = np.asarray(["" if name is None else name for name in statuses], dtype=np.str_)
    kinds, membership = np.unique(names, return_inverse=True)
    priority = _priorities(len(names), seed)
    areas = np.asarray([-1.0 if area is None else area for area in fractions or [None] * len(names)], np.float64)
    chosen: list[int] = []
    for kind, places in enumerate(_shares(np.bincount(membership, minlength=len(kinds)).tolist(), count)):
        members = np.flatnonzero(membership == kind)
        parts = np.array_split(members[np.argsort(areas[members], kind="stable")], DECILES)
        if np.all(areas[members] < 0):
            parts = [members]
        # 53 bits, which a float holds exactly, so that it stays under 1.
        offset = int(_priorities(kind + 1, seed + 1)[kind] >> np.uint64(11)) / 2**53
        for part, taken in zip(parts, _spread([len(part) for part in parts], places, offset), strict=True):
            chosen.extend(part[np.argsort(priority[part], kind="stable")[:taken]].tolist())
    return sorted(chosen)


def _shares(sizes: list[int], count: int) -> list[int]:
    """Places for each status: one each, largest first, then wherever the share is furthest from met."""
    total, places = sum(sizes), [0] * len(sizes)
    for _ in range(min(count, total)):
        open_strata = [kind for kind, size in enumerate(sizes) if places[kind] < size]
        best = max(open_strata, key=lambda kind: (places[kind] == 0, sizes[kind] / (places[kind] + 1), -kind))
        places[best] += 1
    return places


def _spread(sizes: list[int], places: int, offset: float) -> list[int]:
    """`places` over parts of nearly equal size: the same number in each, and the rest evenly spaced from `offset` on.

    Args:
        places: at most the sum of `sizes`.
        offset: in 0..1, exclusive of 1; over all offsets every part is as likely as any other to get one of the rest.
    """
    taken = [0] * len(sizes)
    while places > 0:
        open_parts = [part for part, size in enumerate(sizes) if taken[part] < size]
        if places < len(open_parts):
            open_parts = [open_parts[int((turn + offset) * len(open_parts) / places)] for turn in range(places)]
        for part in open_parts:
            taken[part] += 1
        places -= len(open_parts)
    return taken


def _priorities(size: int, seed: int) -> npt.NDArray[np.uint64]:
    """(size,) uint64: SplitMix64 (Steele, Lea, Flood 2014) of the position, so that no library version matters."""
    mixed = np.arange(1, size + 1, dtype=np.uint64) + np.uint64(seed % 2**31) * np.uint64(2**32)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
