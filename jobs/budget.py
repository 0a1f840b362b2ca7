"""The error budget: a job that rejects too many rows for one reason stops early, with the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from schemas.config import Config
from schemas.errors import BudgetError


class BudgetSection(Config):
    """How many rows a job may reject before it stops. It changes no result of a job that ends."""

    reasons: dict[str, float] = Field(default_factory=dict)
    """Reason -> largest share of a step's rows that may be rejected for it, 0 to 1: `{timeout: 0.2, image_corrupt:
    0.01}`."""
    least_rows: int = Field(default=500, ge=1)
    """A step is held to it once it has seen this many rows."""

    @field_validator("reasons")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        wrong = [reason for reason, share in value.items() if not 0.0 <= share <= 1.0]
        if wrong:
            raise ValueError(f"the share of '{wrong[0]}' must be from 0 to 1")
        return value


def over_budget(budget: BudgetSection, stages: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The first (stage, reason) that is above the budget, or None.

    Args:
        stages: name, rows_in and rejected (reason -> rows) of each.
    """
    for stage in stages:
        if stage["rows_in"] < budget.least_rows:
            continue
        for reason, share in budget.reasons.items():
            if stage["rejected"].get(reason, 0) > share * stage["rows_in"]:
                return stage["name"], reason
    return None


def budget_error(
    budget: BudgetSection, stages: Sequence[Mapping[str, Any]], stage: str, reason: str, examples: Sequence[str]
) -> BudgetError:
    """The error that stops a job, with figures and some sentences of rejected rows."""
    found = next(one for one in stages if one["name"] == stage)
    count, rows = found["rejected"][reason], found["rows_in"]
    seen = "; ".join(examples) or "see outcomes/"
    return BudgetError(
        f"budget.reasons.{reason} of step '{stage}'",
        f"{count:,} of {rows:,} rows ({count / rows:.1%})",
        f"at most {budget.reasons[reason]:.1%} may be rejected for it; for example: {seen}",
        "Mend the cause, or raise the budget, and give the same command again: what was done stays.",
    )
