"""What a run is planned for."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from schemas.config import Config
from trainer.measures.gpus import GPUS


class HardwareConfig(Config):
    """The machines of a run, for `editmill train --dry-run` and for the share of the peak (MFU, HFU) that is logged.
    Nothing else follows from it."""

    gpu: str | None = None
    """A key of `trainer.measures.gpus.GPUS` (H200, H100, A100, RTX-4090 ...); null takes the GPU that is there."""
    processes: int | None = Field(default=None, ge=1)
    """Processes of the run, one a GPU, on all nodes together; null for one, or what `--processes` says."""
    nodes: int = Field(default=1, ge=1)
    """Machines that share the processes evenly."""
    peak_tflops: float | None = Field(default=None, gt=0.0)
    """bfloat16 TFLOP/s of one GPU that MFU and HFU are shares of; null takes the table's, by the GPU's name. Without
    either they are not logged."""
    memory_gib: float | None = Field(default=None, gt=0.0)
    """Memory of one GPU in GiB; null takes the table's."""

    @field_validator("gpu")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in GPUS:
            raise ValueError(f"must be one of {', '.join(GPUS)}, or null with peak_tflops and memory_gib given")
        return name

    @model_validator(mode="after")
    def _even(self) -> HardwareConfig:
        if self.processes is not None and self.processes % self.nodes:
            raise ValueError(f"processes ({self.processes}) must be a multiple of nodes ({self.nodes})")
        return self
