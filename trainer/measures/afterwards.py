"""At the end of a run: how far off was the estimate of its memory?"""

from __future__ import annotations

import torch

from trainer.config import TrainConfig
from trainer.measures.memory import estimate_memory, gib
from trainer.measures.plan import prepared_skeleton, typical_row


def compare_memory(config: TrainConfig, ranks: int, device: torch.device, measured: int, at_start: int) -> str:
    """The estimate that a dry run gives, beside what was measured, as a sentence.

    Args:
        measured: the largest peak of a step on any rank, in bytes: of torch's allocations on a GPU, resident on a CPU.
        at_start: resident before the model was loaded; on a CPU that is taken off.
    """
    skeleton, _ = prepared_skeleton(config)
    on_gpu = device.type == "cuda"
    rows = [typical_row(config, skeleton)] * config.batch_size
    estimated = estimate_memory(config, skeleton, ranks, rows, on_gpu).peak
    used = measured if on_gpu else max(1, measured - at_start)
    told = f"{gib(estimated)} estimated ({(estimated - used) / used:+.1%})"
    if on_gpu:
        return f"memory: {gib(used)} at most, {told}"
    return f"memory: {gib(used)} at most above the start, with what the libraries take on a CPU; {told}"
