"""Known GPUs: what they multiply at best, and how much they hold. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Args:
        name: what a config calls it.
        peak_tflops: bfloat16 matrix products with float32 accumulation, dense, in TFLOP/s.
        memory_gib: what a process can allocate of it, in GiB, drivers' share taken off.
        told_by: words of the name that the driver gives, all of which it holds.
        measured: the peak was measured; elsewhere it is the maker's figure, which no kernel reaches.
    """

    name: str
    peak_tflops: float
    memory_gib: float
    told_by: tuple[str, ...]
    measured: bool = False


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("B200", 2250.0, 178.0, ("B200",)),
        Gpu("H200", 790.0, 139.0, ("H200",), measured=True),
        Gpu("H100-PCIe", 756.0, 79.0, ("H100", "PCIe")),
        Gpu("H100", 989.0, 79.0, ("H100",)),
        Gpu("A100-40GB", 312.0, 39.4, ("A100", "40GB")),
        Gpu("A100", 312.0, 79.0, ("A100",)),
        Gpu("L40S", 362.0, 44.4, ("L40S",)),
        Gpu("A6000", 154.8, 47.4, ("RTX A6000",)),
        Gpu("A40", 149.7, 44.4, ("A40",)),
        Gpu("L4", 121.0, 22.0, ("L4",)),
        Gpu("RTX-5090", 209.5, 31.4, ("RTX 5090",)),
        Gpu("RTX-4090", 165.2, 23.6, ("RTX 4090",)),
        Gpu("RTX-3090", 71.2, 23.6, ("RTX 3090",)),
    )
}
"""Every known GPU by name; of several that a driver's name fits, the first."""


def told_by_driver(device_name: str) -> Gpu | None:
    """The GPU that a driver calls `device_name` ("NVIDIA H100 80GB HBM3"); None where it is not known."""
    words = device_name.replace("-", " ").split()
    for gpu in GPUS.values():
        if all(_holds(words, told) for told in gpu.told_by):
            return gpu
    return None


def _holds(words: list[str], told: str) -> bool:
    wanted = told.split()
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words)))
