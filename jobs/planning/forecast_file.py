"""`plan.json` in a run folder: what a job was expected to come to, and how far that was off when it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from jobs.planning.forecast import Forecast
from jobs.report.counts import StageCounts
from schemas.atomic import write_json
from schemas.config import Config

PLAN_NAME = "plan.json"


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
    core_hours: float
    """Of work in the source and the steps."""
    bytes: float
    """Of the rows after the last step, images encoded."""


@dataclass(frozen=True)
class Deviation:
    """One quantity: what the plan said, and what it was."""

    name: str
    planned: float
    actual: float

    def sentence(self) -> str:
        """In words, with the error in per cent of what it was."""
        off = f" ({self.planned / self.actual - 1:+.1%})" if self.actual else ""
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
        core_hours=expected.core_hours,
        bytes=expected.bytes,
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


def deviations(folder: Path, fingerprint: str, counts: Sequence[StageCounts], seconds: float) -> tuple[Deviation, ...]:
    """How far the plan in `folder` was off; empty where there is none for this chain.

    Args:
        fingerprint: of the chain.
        counts: of the source and the steps, without the pack.
        seconds: of work on one core, over all of them.
    """
    plan = read_forecast(folder, fingerprint)
    if plan is None:
        return ()
    return (
        Deviation("rows in", plan.rows, counts[0].rows_in),
        Deviation("rows kept", plan.kept, counts[-1].kept),
        Deviation("core-hours", plan.core_hours, seconds / 3600),
    )
