"""The pipeline config: what `editmill run CONFIG.yaml` reads, and what the other commands build."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from jobs.budget import BudgetSection
from jobs.runners.config import RunnerConfig
from pipelines.pack import PackConfig
from schemas.config import Config
from schemas.weighting import check_weighting

NamedValues = dict[str, dict[str, Any]]
"""One name -> its config, as `{masks: {recipe: uniworld}}`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class PackSection(PackConfig):
    """The pack at the end of a pipeline: the keys of `PackConfig`, and where to."""

    output: Path | None = None
    """Folder of the shards. Default: `shards` in the run folder."""
    overwrite: bool = False
    """Replace shards that were packed into `output` from other samples or with another config. The default folder is
    the run's own and always replaced."""

    def pack_config(self) -> PackConfig:
        """The part that decides the shards' bytes."""
        return PackConfig.model_validate(self.model_dump(exclude={"output", "overwrite"}))


class ReportSection(Config):
    """What the report of masks shows; it changes no row."""

    weighting: str = "logarithmic"
    """Whose weights are shown: uniform, linear, exponential_root, logarithmic or quadratic_root."""
    max_weight: float | None = None
    """Cap of the weight; exponential_root needs one."""

    @model_validator(mode="after")
    def _known(self) -> ReportSection:
        check_weighting(self.weighting, self.max_weight)
        return self


class PipelineConfig(Config):
    """A pipeline: where rows come from, what happens to them, where they go."""

    name: str
    """Letters, digits, dots, hyphens and underscores."""
    output: Path | None = None
    """The run folder. Default: `runs/NAME`, below the current folder."""
    source: NamedValues
    """Exactly one source and its config."""
    steps: tuple[NamedValues, ...] = ()
    """The steps, in order, each with its config."""
    pack: PackSection | None = None
    """Pack the rows into shards at the end, instead of writing them to `records/`."""
    report: ReportSection = Field(default_factory=ReportSection)
    """What the report of masks shows."""
    budget: BudgetSection = Field(default_factory=BudgetSection)
    """When to stop for too many rejected rows."""
    runner: RunnerConfig = Field(default_factory=RunnerConfig)
    """Where it runs; changes no result."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if _NAME.fullmatch(value) is None:
            raise ValueError("must be letters, digits, dots, hyphens and underscores, and begin with the former two")
        return value

    @field_validator("source", mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        return _one_name(value)

    @field_validator("steps", mode="before")
    @classmethod
    def _one_name_a_step(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list of steps, each '- NAME: {...}'")
        return tuple(_one_name(step) for step in value)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.output or Path("runs") / self.name

    @property
    def shards(self) -> Path | None:
        """The folder of the shards, or None where nothing is packed."""
        return None if self.pack is None else (self.pack.output or self.folder / "shards")


def _one_name(value: Any) -> Any:
    """`NAME`, `{NAME: null}` and `{NAME: {...}}` are one thing."""
    if isinstance(value, str):
        return {value: {}}
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("must be one name with its config, as 'NAME: {...}'")
    return {name: {} if values is None else values for name, values in value.items()}
