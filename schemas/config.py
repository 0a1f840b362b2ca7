"""Typed configs, validated once at the edge: pydantic models whose errors become one clear line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import ConfigError, InputError


class Config(BaseModel):
    """Base of every config: unknown keys are refused, values cannot change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def as_json(self) -> dict[str, Any]:
        """The resolved config as JSON-able values; equal configs give equal dictionaries."""
        return self.model_dump(mode="json")


ConfigT = TypeVar("ConfigT", bound=Config)


def parse_config(config_class: type[ConfigT], values: Mapping[str, Any], where: str) -> ConfigT:
    """`values` as a validated `config_class`.

    Args:
        where: what the values came from, for the error ("pipeline.yaml: steps[1].masks").

    Raises:
        ConfigError: an unknown key (with the closest known one), a missing one, or a value that breaks a rule.
    """
    try:
        return config_class.model_validate(dict(values))
    except ValidationError as error:
        raise _config_error(config_class, error, where) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: the file is missing or cannot be read.
        ConfigError: it is not YAML, or its top level is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("config file", str(path), f"cannot be read ({error})", "Check the path.") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(str(path), str(error), "must be YAML", "Correct the line named.") from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), type(values).__name__, "must hold a mapping of keys to values", "See configs/.")
    return values


def _config_error(config_class: type[BaseModel], error: ValidationError, where: str) -> ConfigError:
    first = error.errors()[0]
    location = ".".join(str(part) for part in first["loc"])
    field = f"{where}: {location}" if location else where
    if first["type"] == "extra_forbidden":
        known = _known_keys(config_class, first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        mend = f"Did you mean '{close[0]}'?" if close else f"Known keys: {', '.join(known)}."
        return ConfigError(field, first["input"], "is not a known key", mend)
    if first["type"] == "missing":
        return ConfigError(field, None, "is required and was not given", "Add it.")
    rule = first["msg"].removeprefix("Value error, ")
    return ConfigError(field, first["input"], rule[0].lower() + rule[1:], "Correct the value.")


def _known_keys(config_class: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] = config_class
    for part in location:
        field = current.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return list(current.model_fields)
        current = field.annotation
    return list(current.model_fields)
