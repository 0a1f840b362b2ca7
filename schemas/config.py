"""Typed configs, validated once at the edge: pydantic models whose errors become one clear line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

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


def rule_broken(field: str, value: object, rule: str, mend: str = "Correct the value.") -> PydanticCustomError:
    """To be raised by a validator that looks at several fields at once: the error then names the one to change, and not
    all of their values.

    Args:
        field: dotted, relative to the model that validates.
        value, rule, mend: as in `schemas.errors.EditmillError`.
    """
    return PydanticCustomError("rule_broken", "{rule}", {"field": field, "value": value, "rule": rule, "mend": mend})


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
        values = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = "?" if error.problem_mark is None else error.problem_mark.line + 1
        raise ConfigError(
            f"{path}, line {line}", error.problem, "must be YAML, with each key once", "Correct the line."
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(str(path), str(error), "must be YAML", "Correct the file.") from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), type(values).__name__, "must hold a mapping of keys to values", "See configs/.")
    return values


class _Loader(yaml.SafeLoader):
    """YAML's plain values; a key that stands twice, of which YAML would take the last, is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base, once the keys are known to differ."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' stands twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        values: dict[Any, Any] = super().construct_mapping(node, deep)
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
    if first["type"] == "rule_broken":
        told = first["ctx"]
        path = ".".join(filter(None, (location, told["field"])))
        return ConfigError(f"{where}: {path}", told["value"], told["rule"], told["mend"])
    rule = first["msg"].removeprefix("Value error, ")
    return ConfigError(field, first["input"], rule[0].lower() + rule[1:], "Correct the value.")


def _known_keys(config_class: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] = config_class
    for part in location:
        field = current.model_fields.get(str(part))
        # `Section | None` has the section among its arguments.
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not sections:
            break
        current = sections[0]
    return list(current.model_fields)
