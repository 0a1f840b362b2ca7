"""Where a pipeline runs."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field, model_validator

from schemas.config import Config


class RunnerConfig(Config):
    """The runner and its resources. None of this changes a result."""

    kind: Literal["in_process", "ray"] = "in_process"
    """`in_process`: one partition after the other, here. `ray`: streamed over workers by Ray Data."""
    workers: int | None = Field(default=None, ge=1)
    """Ray: cores to use, and partitions in flight at each step. Default: the cores of the machine or cluster."""
    address: str | None = None
    """Ray: the cluster to join ("auto", "ray://host:10001"); default: a cluster of its own on this machine. The run
    folder and the input must then be on a file system that all nodes share."""
    gpus_per_model: float | None = Field(default=None, ge=0.0)
    """Ray: GPUs held by each worker of a step that computes a model itself. Default: one where the cluster has GPUs.
    Where there are fewer than such steps, they share them."""
    object_store_mib: int = Field(default=1024, ge=100)
    """Ray: shared memory for partitions in flight, in MiB, where a cluster of its own is started."""

    stall_minutes: float = Field(default=15.0, gt=0.0)
    """Minutes without a committed partition after which the run says that it may hang; it goes on all the same."""

    @model_validator(mode="after")
    def _fits_kind(self) -> RunnerConfig:
        if self.kind == "in_process" and (self.workers not in (None, 1) or self.address is not None):
            raise ValueError("workers and address belong to the runner 'ray' (kind: ray)")
        return self

    @property
    def cores(self) -> int:
        """The cores of a cluster of its own; in one process there is one."""
        return 1 if self.kind == "in_process" else self.workers or os.cpu_count() or 1
