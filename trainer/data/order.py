"""Which sample stands at which position of a run: pure, and the same for any number of ranks and workers.

Position p of a run lies in epoch p // N at place p % N; each epoch is a permutation of all N samples of its own. A step
takes the next G positions (the global batch), so no sample is lost at an epoch's end, and a run goes on in the middle
of an epoch from its position alone. The price is 8 bytes a sample for the permutation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def epoch_order(seed: int, epoch: int, samples: int) -> npt.NDArray[np.int64]:
    """The permutation of 0 .. samples - 1 in an epoch."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).permutation(samples)


def step_positions(step: int, batch_size: int, accumulation: int, rank: int, ranks: int) -> list[list[int]]:
    """The positions that one rank takes at a step, one list for each micro-batch.

    Micro-batch a of rank r takes the batch_size positions from ((step * accumulation + a) * ranks + r) * batch_size, so
    the positions of a step are the same whenever batch_size * accumulation * ranks is.

    Args:
        step: counted from 0.
    """
    firsts = [((step * accumulation + micro) * ranks + rank) * batch_size for micro in range(accumulation)]
    return [list(range(first, first + batch_size)) for first in firsts]


class Order:
    """Position -> sample, with the permutations of the latest two epochs kept."""

    def __init__(self, seed: int, samples: int) -> None:
        self._seed = seed
        self._samples = samples
        self._epochs: dict[int, npt.NDArray[np.int64]] = {}

    def sample_at(self, position: int) -> int:
        """The index (0 .. N - 1) of the sample at a position >= 0."""
        epoch, place = divmod(position, self._samples)
        if epoch not in self._epochs:
            self._epochs = {kept: order for kept, order in self._epochs.items() if abs(kept - epoch) <= 1}
            self._epochs[epoch] = epoch_order(self._seed, epoch, self._samples)
        return int(self._epochs[epoch][place])
