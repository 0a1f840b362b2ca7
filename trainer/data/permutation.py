"""A pseudo-random permutation that answers for single places: no table, so no memory and no start-up time.

A Feistel network over the smallest square power of two that holds the set, walked along its cycles until it lands
inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). A shuffled table of ten million rows
would cost 80 MB and a second in every epoch and process.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]

_ROUNDS = 8
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Of the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""


def permuted(key: str, size: int, places: Places) -> Places:
    """Where a permutation of 0 .. size - 1 puts `places`.

    Args:
        key: names the permutation; the same one gives the same.
        size: >= 1.
        places: int64, each in 0 .. size - 1, any shape.

    Returns:
        int64 of the shape of `places`.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    rounds = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=8 * _ROUNDS).digest(), dtype="<u8")
    result = _network(places.astype(np.uint64), half, rounds)
    while (outside := result >= size).any():
        # The domain is less than four times as large: a few turns bring every place back inside.
        result[outside] = _network(result[outside], half, rounds)
    return result.astype(np.int64)


def _network(values: npt.NDArray[np.uint64], half: int, rounds: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in rounds:
        left, right = right, left ^ (_mixed(right + key) & mask)
    mixed: npt.NDArray[np.uint64] = (left << bits) | right
    return mixed


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _MULTIPLIERS[0]
    values = (values ^ (values >> np.uint64(27))) * _MULTIPLIERS[1]
    return values ^ (values >> np.uint64(31))
