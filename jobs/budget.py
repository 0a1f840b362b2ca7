"""The error budget: a job that rejects too many rows for one reason stops early, with the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field, field_validator

from schemas.config import Config
from schemas.errors import BudgetError


class BudgetSection(Config):
    """How many rows a job may reject before it stops. It changes no result of a job that ends."""

    reasons: dict[str, float] = Field(default_factory=dict)
    """Reason -> largest share of a step's rows that may be rejected for it, 0 to 1: `{timeout: 0.2, image_corrupt:
    0.01}`. `*` stands for any characters: all reasons that `http_5*` fits count together."""
    least_rows: int = Field(default=500, ge=1)
    """A step is held to it once it has seen this many rows."""

    @field_validator("reasons")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        wrong = [reason for reason, share in value.items() if not 0.0 <= share <= 1.0]
        if wrong:
            raise ValueError(f"the share of '{wrong[0]}' must be from 0 to 1")
        return value


def counted(rejected: Mapping[str, int], reason: str) -> int:
    """The rows rejected for the reasons that `reason` fits."""
    return sum(rows for name, rows in rejected.items() if fnmatchcase(name, reason))


def over_budget(budget: BudgetSection, stages: Sequence[Mapping[str, Any]]) -> tuple[int, str] | None:
    """The first (position of a stage, reason of the budget) that is above it, or None.

    Args:
        stages: name, rows_in and rejected (reason -> rows) of each.
    """
    for position, stage in enumerate(stages):
        if stage["rows_in"] < budget.least_rows:
            continue
        for reason, share in budget.reasons.items():
            if counted(stage["rejected"], reason) > share * stage["rows_in"]:
                return position, reason
    return None


def budget_error(budget: BudgetSection, stage: Mapping[str, Any], reason: str, examples: Sequence[str]) -> BudgetError:
    """The error that stops a job, with figures and some sentences of rejected rows."""
    count, rows = counted(stage["rejected"], reason), stage["rows_in"]
    seen = "; ".join(examples) or "none was written"
    return BudgetError(
        f"budget.reasons.{reason} of step '{stage['name']}'",
        f"{count:,} of {rows:,} rows ({count / rows:.1%})",
        f"at most {budget.reasons[reason]:.1%} may be rejected for it; for example: {seen}",
        "Mend the cause, or raise the budget, and give the same command again: what was done stays.",
    )
