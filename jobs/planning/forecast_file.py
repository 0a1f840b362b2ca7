"""`plan.json` in a run folder: what a job was expected to come to, and how far that was off when it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from jobs.planning.forecast import PACK, Forecast
from schemas.atomic import write_json
from schemas.config import Config

PLAN_NAME = "plan.json"
MIB = 2**20


class PlanFile(Config):
    """The part of a forecast that a finished job is held against."""

    fingerprint: str
    """Of the chain that was planned; another one makes the plan void."""
    rows: float
    """Of the input."""
    kept: float
    """Rows after the last step."""
    kept_low: float
    kept_high: float
    """The interval of `kept`."""
    cores: int
    seconds: float
    """Wall time on so many cores."""
    core_hours: float
    """Of work in the source and the steps, the pack apart."""
    gpu_hours: float
    run_bytes: float
    shard_bytes: float
    """Left in the run folder, and in the folder of the shards."""
    model_money: float
    """For replies of models."""


@dataclass(frozen=True)
class Actual:
    """What a job came to.

    Args:
        rows, kept: of the input, and at the end.
        seconds: wall time, or None where earlier starts had done a part.
        core_hours, gpu_hours: of work in the source and the steps, over all starts.
        run_bytes, shard_bytes: written to the run folder, and to the folder of the shards.
        model_money: spent for replies of models, or None where they have no price.
    """

    rows: int
    kept: int
    seconds: float | None
    core_hours: float
    gpu_hours: float
    run_bytes: int
    shard_bytes: int
    model_money: float | None


@dataclass(frozen=True)
class Deviation:
    """One quantity: what the plan said, and what it was."""

    name: str
    planned: float
    actual: float

    def error(self) -> str:
        """In per cent of what it was; empty where that was nothing."""
        return f"{self.planned / self.actual - 1:+.1%}" if self.actual else ""

    def sentence(self) -> str:
        """In words."""
        off = f" ({self.error()})" if self.actual else ""
        return f"{self.name}: planned {self.planned:,.4g}, was {self.actual:,.4g}{off}"


def write_forecast(folder: Path, fingerprint: str, expected: Forecast) -> Path:
    """Write `plan.json` into the run folder, which is made; returns its path.

    Args:
        fingerprint: of the chain.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / PLAN_NAME
    plan = PlanFile(
        fingerprint=fingerprint,
        rows=expected.rows,
        kept=expected.kept,
        kept_low=expected.kept_low,
        kept_high=expected.kept_high,
        cores=expected.cores,
        seconds=expected.seconds,
        core_hours=sum(stage.seconds for stage in expected.stages if stage.name != PACK) / 3600,
        gpu_hours=expected.gpu_hours,
        run_bytes=expected.run_bytes,
        shard_bytes=expected.shard_bytes,
        model_money=expected.model_money,
    )
    write_json(path, plan.as_json())
    return path


def read_forecast(folder: Path, fingerprint: str) -> PlanFile | None:
    """The plan in the run folder `folder`, or None where there is none for the chain with this fingerprint."""
    try:
        plan = PlanFile.model_validate_json((folder / PLAN_NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return plan if plan.fingerprint == fingerprint else None


def deviations(folder: Path, fingerprint: str, actual: Actual) -> tuple[Deviation, ...]:
    """How far the plan in `folder` was off; empty where there is none for this chain.

    Args:
        fingerprint: of the chain.
    """
    plan = read_forecast(folder, fingerprint)
    if plan is None:
        return ()
    found = [
        Deviation("rows in", plan.rows, actual.rows),
        Deviation("rows kept", plan.kept, actual.kept),
        Deviation("core-hours", plan.core_hours, actual.core_hours),
    ]
    if actual.seconds is not None:
        found.append(Deviation("seconds", plan.seconds, actual.seconds))
    if plan.gpu_hours or actual.gpu_hours:
        found.append(Deviation("GPU-hours", plan.gpu_hours, actual.gpu_hours))
    found.append(Deviation("MiB in the run folder", plan.run_bytes / MIB, actual.run_bytes / MIB))
    if plan.shard_bytes or actual.shard_bytes:
        found.append(Deviation("MiB of shards", plan.shard_bytes / MIB, actual.shard_bytes / MIB))
    if actual.model_money is not None:
        found.append(Deviation("money for models", plan.model_money, actual.model_money))
    return tuple(found)
