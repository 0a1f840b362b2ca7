"""Which rows stay: in order of preference, each row that is not near one that stays already.

So no two rows that stay are near each other, every other row is near one that stays, and it names the most preferred of
these. (Connected components would drop a row for being near a row near a row near the one kept.) The result depends on
the order of preference alone, not on the order of the input.

Done by halves: settle the more preferred half, drop what is near it from the other, settle what is left of that. A
dense heap of a million near rows has few that stay, so memory and time stay small where a list of all near pairs would
have 10^12 entries.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.deduplicate.hamming import I64, Points, distances, nearest_owner

_LEAF = 128
"""Up to this many points are compared all with all."""


def keep_first(points: Points, rows: int, radius: int) -> I64:
    """What becomes of each row.

    Args:
        points: of rows 0 to rows - 1, the most preferred first.
        radius: largest distance that counts as near, inclusive.

    Returns:
        (rows,) int64: -1 where the row stays; else row x 256 + distance of the most preferred near row that stays.
    """
    verdicts = np.full(rows, -1, np.int64)
    _settle(points, radius, verdicts)
    return verdicts


def _settle(points: Points, radius: int, verdicts: I64) -> None:
    """Decide the rows of `points`, none of which is near a row that stays outside them."""
    if len(points) <= _LEAF or points.owner[0] == points.owner[-1]:
        _settle_directly(points, radius, verdicts)
        return
    half = int(points.owner[len(points) // 2])
    if half == points.owner[0]:
        half += 1
    cut = int(np.searchsorted(points.owner, half))
    first, second = points.of(slice(0, cut)), points.of(slice(cut, None))
    _settle(first, radius, verdicts)
    low, high = int(second.owner[0]), int(second.owner[-1]) + 1
    stay = first.of(verdicts[first.owner] < 0)
    near = nearest_owner(Points(second.hashes, second.group, second.owner - low), stay, radius, high - low)
    dropped = near >= 0
    verdicts[low:high][dropped] = near[dropped]
    left = second.of(verdicts[second.owner] < 0)
    if len(left):
        _settle(left, radius, verdicts)


def _settle_directly(points: Points, radius: int, verdicts: I64) -> None:
    apart = distances(points.hashes[:, None, :], points.hashes[None, :, :]).max(axis=2)
    near: npt.NDArray[np.bool_] = (apart <= radius) & (points.group[:, None] == points.group[None, :])
    near &= points.owner[:, None] < points.owner[None, :]
    for place in np.flatnonzero(near.any(axis=1)):
        owner = points.owner[place]
        if verdicts[owner] >= 0:
            continue
        for other in np.flatnonzero(near[place]):
            verdict = verdicts[points.owner[other]]
            found = int(owner) * 256 + int(apart[place, other])
            if verdict < 0 or found < verdict:
                verdicts[points.owner[other]] = found
