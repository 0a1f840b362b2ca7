"""A loss or a gradient that is not finite ends the run, and names the samples that it came from.

Both are found out before a checkpoint, the moving average or the log takes anything of that step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn

from trainer.data.batch import MicroBatch
from trainer.distributed import Ranks
from trainer.errors import TrainingStopped

MEND = "Look at these samples, or lower the learning rate; the run goes on from its last checkpoint."


def stop_unless_loss_is_finite(
    total: torch.Tensor, per_sample: Sequence[torch.Tensor], micro: Sequence[MicroBatch], step: int, ranks: Ranks
) -> None:
    """A collective where it stops.

    Args:
        total: `trainer.loss.reduction.sums` over the global batch, the same on every rank.
        per_sample: (B,) for each micro-batch of this rank: the sample's error, in any scale.
        micro: this rank's micro-batches.
        step: the step at work, counted from 1.

    Raises:
        TrainingStopped: the loss is not finite. It names the samples of all ranks whose own error is not.
    """
    if bool(torch.isfinite(total).all()):
        return
    broken = [
        name
        for batch, errors in zip(micro, per_sample, strict=True)
        for name, usable, finite in zip(
            sample_names(batch), batch.usable.tolist(), torch.isfinite(errors).tolist(), strict=True
        )
        if usable and not finite
    ]
    named = "; ".join(name for part in ranks.gather(broken) for name in part) or "no single sample's"
    raise TrainingStopped(f"loss at step {step}", float(total[0]), f"is not finite: {named}", MEND)


class GradientWatch:
    """Remembers of each micro-batch of a step whether its gradient was finite, parameter by parameter.

    It adds one reduction a parameter to the backward pass, and reads nothing back from the device before a step's
    gradient norm turns out not to be finite.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], micro_batches: int, device: torch.device) -> None:
        """
        Args:
            parameters: the trainable ones by name, as the engine holds them.
            micro_batches: of one step on this rank.
        """
        self._names = list(parameters)
        self._sums = torch.zeros(micro_batches, len(self._names), device=device)
        self._micro = 0
        for number, parameter in enumerate(parameters.values()):
            parameter.register_hook(partial(self._note, number))

    def begin(self, micro_batch: int) -> None:
        """The next backward pass is that of this micro-batch, counted from 0."""
        self._micro = micro_batch
        # A parameter that takes no part in a pass leaves nothing behind of an earlier step.
        self._sums[micro_batch].zero_()

    def _note(self, number: int, gradient: torch.Tensor) -> None:
        # A sum of finite numbers could only overflow near 1e38; one that is not finite shows in any sum.
        self._sums[self._micro, number].copy_(gradient.detach().sum(dtype=torch.float32))

    def stop_unless_finite(self, norm: float | None, micro: Sequence[MicroBatch], step: int, ranks: Ranks) -> None:
        """A collective where it stops.

        Args:
            norm: the gradient's global norm, the same on every rank; None is not looked at.
            micro: this rank's micro-batches.
            step: the step at work, counted from 1.

        Raises:
            TrainingStopped: the norm is not finite. It names rank, micro-batch, samples and a parameter for each
                micro-batch whose own gradient is not finite; where there is none, all samples of the step.
        """
        if norm is None or math.isfinite(norm):
            return
        finite = torch.isfinite(self._sums).cpu()
        told, taken = [], []
        for number, (batch, whole) in enumerate(zip(micro, finite, strict=True)):
            place = f"rank {ranks.rank}, micro-batch {number + 1}"
            names = [name for name, usable in zip(sample_names(batch), batch.usable.tolist(), strict=True) if usable]
            taken.append(f"{place}: {', '.join(names)}")
            if not bool(whole.all()):
                broken = int((~whole).sum())
                parameter = self._names[int((~whole).nonzero()[0])]
                told.append(f"{taken[-1]} ({broken} of {len(self._names)} parameters, such as {parameter})")
        parts = ranks.gather((told, taken))
        named = "; ".join(text for part, _ in parts for text in part)
        if not named:
            named = "no single micro-batch's, but their sum; " + "; ".join(text for _, part in parts for text in part)
        raise TrainingStopped(f"gradient norm at step {step}", norm, f"is not finite: {named}", MEND)


def sample_names(batch: MicroBatch) -> list[str]:
    """Key, data set and file of each sample."""
    rows = zip(batch.keys, batch.datasets, batch.shards, strict=True)
    return [f"{key} of {dataset} in {shard}" for key, dataset, shard in rows]
