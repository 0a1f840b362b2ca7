"""A rule that several keys break together names the one to change."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import model_validator

from schemas.config import Config, parse_config, rule_broken
from schemas.errors import ConfigError


class Range(Config):
    """A section whose keys depend on each other."""

    low: int = 0
    """At most `high`."""
    high: int = 9
    """At least `low`."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low > self.high:
            raise rule_broken("low", self.low, f"must be at most high = {self.high}", "Lower it.")
        return self


class Whole(Config):
    """A config with such a section."""

    section: Range = Range()
    """The section."""


@pytest.mark.parametrize(
    ("config_class", "values", "field"),
    [(Whole, {"section": {"low": 10}}, "run.yaml: section.low"), (Range, {"low": 10}, "run.yaml: low")],
)
def test_it_names_key_value_rule_and_mend(config_class: type[Config], values: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(config_class, values, "run.yaml")
    told = error.value
    assert (told.field, told.value, told.rule, told.mend) == (field, 10, "must be at most high = 9", "Lower it.")
