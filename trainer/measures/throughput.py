"""What a step came to: samples and tokens a second, TFLOP/s, MFU, HFU, memory, and the time spent waiting for data."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.config import HardwareConfig
from trainer.data.batch import MicroBatch
from trainer.distributed import Ranks
from trainer.measures.flops import Row, StepFlops
from trainer.measures.gpus import GPUS, told_by_driver

GIB = float(2**30)

MEASURED = (
    "samples_per_second",
    "tokens_per_second",
    "tflops",
    "mfu",
    "hfu",
    "memory_gib",
    "memory_reserved_gib",
    "data_wait",
)
"""Fields of a step's record that are measured, and so differ between runs of which all else is the same."""


@dataclass(frozen=True)
class Memory:
    """Memory of this process, in bytes.

    Args:
        peak: the most that was allocated at once. On a GPU by torch's allocator; on a CPU resident.
        reserved: the most that torch's allocator held of the GPU; on a CPU the same as `peak`.
    """

    peak: int
    reserved: int


def memory_of(device: torch.device) -> Memory:
    """The peaks since the process began, or since they were reset on a GPU."""
    if device.type == "cuda":
        return Memory(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device))
    return Memory(*[_peak_resident()] * 2)


def peak_flops(hardware: HardwareConfig, device: torch.device) -> float | None:
    """FLOP/s that MFU and HFU are shares of: the config's, else the table's for the GPU; None where neither tells."""
    if hardware.peak_tflops is not None:
        return hardware.peak_tflops * 1e12
    if hardware.gpu is not None:
        return GPUS[hardware.gpu].peak_tflops * 1e12
    if device.type == "cuda":
        gpu = told_by_driver(torch.cuda.get_device_name(device))
        return None if gpu is None else gpu.peak_tflops * 1e12
    return None


def rows_of(batch: MicroBatch, takes_reference_latents: bool = False) -> list[Row]:
    """The shapes of a micro-batch's samples; references that join the image sequence have the target's size."""
    height, width = batch.target.shape[-2:]
    grids: list[list[tuple[int, int]]] = [[] for _ in batch.positions]
    if batch.features is not None:
        # The tower does not run: what it would have been shown is not known, nor needed.
        shown = [(row, 0, 0) for row in batch.features.image_rows.tolist()]
        lengths = batch.features.vlm_mask.sum(dim=1).tolist()
    else:
        patches = batch.inputs.image_grid_thw.tolist()
        shown = [(row, *grid[1:]) for row, grid in zip(batch.inputs.image_rows.tolist(), patches, strict=True)]
        lengths = batch.inputs.attention_mask.sum(dim=1).tolist()
    for row, high, wide in shown:
        grids[row].append((high, wide))
    return [
        Row(
            height,
            width,
            length,
            tuple(own),
            ((height, width),) * (len(own) if takes_reference_latents else 0),
            latents_cached=batch.latents is not None,
            features_cached=batch.features is not None,
        )
        for length, own in zip(lengths, grids, strict=True)
    ]


class StepMeter:
    """Measures one optimizer step after the other.

    Args:
        flops: counts for the model as it is trained.
        peak: FLOP/s of one device; None leaves MFU and HFU out.
    """

    def __init__(self, flops: StepFlops, ranks: Ranks, peak: float | None) -> None:
        self._flops = flops
        self._ranks = ranks
        self._peak = peak
        self.most_memory = 0
        """The largest peak of any step so far, in bytes, on any rank."""
        self.begin()

    def begin(self) -> None:
        """A step begins. On a GPU its peak memory is its own, without that of a validation before it."""
        if self._ranks.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._ranks.device)
        self._began = time.perf_counter()
        self._waited = self._tokens = self._model = self._hardware = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What is done inside is waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def take(self, batch: MicroBatch) -> None:
        """Count in a micro-batch of this step."""
        rows = rows_of(batch, self._flops.takes_reference_latents)
        self._tokens += sum(self._flops.tokens(row) for row in rows)
        self._model += self._flops.model_flops(rows)
        self._hardware += self._flops.hardware_flops(rows)

    def end(self, samples: float) -> dict[str, Any]:
        """The step's figures, for its record. A collective.

        Args:
            samples: of the global batch.

        Returns:
            `samples_per_second` and `tokens_per_second` (tokens of the DiT, without padding), over all ranks; `tflops`
            (model TFLOP/s of one device, the mean), `mfu` and `hfu` (shares of the peak, null where it is not known);
            `memory_gib` and `memory_reserved_gib` (the peaks, of the rank with most: of this step on a GPU, of the
            process so far on a CPU); `data_wait` (share of the
            step spent waiting for data, of the rank that waited longest).
        """
        ranks = self._ranks
        seconds = time.perf_counter() - self._began
        memory = memory_of(ranks.device)
        # One small collective: three sums, and each rank's own three in a place of its own.
        own = torch.zeros(3, ranks.world, dtype=torch.float64)
        own[:, ranks.rank] = torch.tensor([self._waited / seconds, memory.peak, memory.reserved], dtype=torch.float64)
        sums = torch.tensor([self._tokens, self._model, self._hardware], dtype=torch.float64)
        values = ranks.sum(torch.cat((sums, own.flatten())))
        tokens, model, hardware = values[:3].tolist()
        waited, peak, reserved = values[3:].view(3, ranks.world).max(dim=1).values.tolist()
        self.most_memory = max(self.most_memory, int(peak))
        each = 1.0 / seconds / ranks.world
        return {
            "samples_per_second": round(samples / seconds, 4),
            "tokens_per_second": round(tokens / seconds, 1),
            "tflops": round(model * each / 1e12, 4),
            "mfu": None if self._peak is None else round(model * each / self._peak, 4),
            "hfu": None if self._peak is None else round(hardware * each / self._peak, 4),
            "memory_gib": round(peak / GIB, 3),
            "memory_reserved_gib": round(reserved / GIB, 3),
            "data_wait": round(waited, 4),
        }


def resident() -> int:
    """What is resident of this process now, in bytes; its peak where the system does not tell."""
    return _from_status("VmRSS") or _peak_resident()


def _from_status(name: str) -> int | None:
    """A figure of Linux' account of this process, in bytes; None on other systems."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _peak_resident() -> int:
    """The most that was resident of this process, in bytes."""
    # Not `ru_maxrss` where it can be helped, which Linux hands on from the parent.
    told = _from_status("VmHWM")
    if told is not None:
        return told
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
