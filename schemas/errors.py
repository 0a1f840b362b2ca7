"""Typed errors. Each names the field, the value, the rule it breaks and the mend.

The command line prints an `EditmillError` as one clear line and exits with 2; anything else is a defect of editmill.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class EditmillError(Exception):
    """Base of every error a user can cause and mend.

    Args:
        field: what is wrong, as the user wrote it (a config key, a column, a path).
        value: what was found there.
        rule: the rule it breaks, as a statement ("must be at least 1").
        mend: what to do about it.
    """

    def __init__(self, field: str, value: object, rule: str, mend: str) -> None:
        self.field = field
        self.value = value
        self.rule = rule
        self.mend = mend
        super().__init__(field, value, rule, mend)

    def __str__(self) -> str:
        # Messages of libraries, which rules quote, may have several lines.
        return " ".join(f"{self.field} = {_short(self.value)}: {self.rule}. {self.mend}".split())


class ConfigError(EditmillError):
    """A configuration value is unknown, missing or out of range."""


class SchemaError(EditmillError):
    """A table lacks a column, or a column has the wrong type or forbidden values."""


class SchemaVersionError(SchemaError):
    """A file was written by a newer editmill whose schema this one does not know."""


class InputError(EditmillError):
    """An input path is missing, or is not the kind of file it should be."""


class OutputError(EditmillError):
    """An output cannot be written: the disk is full, a file stands in the way, or the place is read-only."""


class ShardError(EditmillError):
    """A shard, its index or its manifest is missing, truncated or altered."""


class BudgetError(EditmillError):
    """A job rejected more rows for one reason than its budget allows."""


class ContractError(EditmillError):
    """A step breaks the step contract (a defect of the step, not of the data)."""


class RowRejected(Exception):
    """Raised inside a step to reject one row. Not an `EditmillError`: a rejected row is an outcome, not a failure.

    Args:
        reason: machine-readable, snake_case, stable ("image_corrupt").
        sentence: for a person, with the figures that led to it.
        evidence: what was measured of the row, as plain values that JSON holds; kept with its outcome.
    """

    def __init__(self, reason: str, sentence: str, evidence: Mapping[str, Any] | None = None) -> None:
        self.reason = reason
        self.sentence = sentence
        self.evidence = evidence
        super().__init__(reason, sentence, evidence)


def _short(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
