"""What is tuned: a recipe and those of its parameters that were set; and what its parameters are, for a person."""

from __future__ import annotations

import ast
import inspect
import shlex
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

import annotated_types
import yaml
from pydantic.fields import FieldInfo

from pipelines.masks.recipe import MaskRecipe
from pipelines.masks.registry import make_recipe
from schemas.atomic import canonical_json
from schemas.config import Config


@dataclass(frozen=True)
class Settings:
    """A recipe with the parameters that were set; the others are at their defaults.

    Args:
        recipe: its name.
        parameters: name -> value.
    """

    recipe: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> MaskRecipe[Any]:
        """The recipe.

        Raises:
            ConfigError: no such recipe or parameter, or a value out of range.
        """
        return make_recipe(self.recipe, self.parameters)

    def with_values(self, values: Mapping[str, Any]) -> Settings:
        """With some parameters set; one set to its default counts as not set.

        Raises:
            ConfigError: as `make`.
        """
        resolved = Settings(self.recipe, {**self.parameters, **values}).make().parameters.as_json()
        defaults = Settings(self.recipe).make().parameters.as_json()
        return Settings(self.recipe, {name: value for name, value in resolved.items() if value != defaults[name]})

    def options(self) -> list[str]:
        """As options of `editmill masks`."""
        texts = [f"{name}={value_text(value)}" for name, value in self.parameters.items()]
        return ["--recipe", self.recipe, *(part for text in texts for part in ("--parameter", text))]

    def step(self, more: Mapping[str, Any]) -> str:
        """The steps of a pipeline config, as YAML.

        Args:
            more: further keys of the step `masks`.
        """
        values = {"recipe": self.recipe, **more}
        if self.parameters:
            values["parameters"] = dict(self.parameters)
        return yaml.safe_dump({"steps": [{"masks": values}]}, sort_keys=False, allow_unicode=True)

    def sentence(self) -> str:
        """On one line: `robust, low_threshold=2.5`."""
        return ", ".join([self.recipe, *(f"{name}={value_text(one)}" for name, one in self.parameters.items())])


@dataclass(frozen=True)
class ParameterRow:
    """One parameter for a person: its name, value, default, range, and what it means."""

    name: str
    value: str
    default: str
    range: str
    doc: str


def parameter_rows(settings: Settings) -> list[ParameterRow]:
    """Every parameter of the recipe, in the order in which the recipe declares them."""
    recipe = settings.make()
    values, kind = recipe.parameters.as_json(), recipe.parameters_class
    defaults, docs = Settings(settings.recipe).make().parameters.as_json(), field_docs(kind)
    return [
        ParameterRow(name, value_text(values[name]), value_text(defaults[name]), _range(info), docs.get(name, ""))
        for name, info in kind.model_fields.items()
    ]


def field_docs(kind: type[Config]) -> dict[str, str]:
    """Field -> the docstring below it, on one line, read from the class's source."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    docs = {}
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for statement, following in pairwise(statements):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    docs[statement.target.id] = " ".join(text.split())
    return docs


def value_text(value: Any) -> str:
    """A value as it is typed, which YAML reads back as the same."""
    return value if isinstance(value, str) and yaml.safe_load(value) == value else canonical_json(value)


def command_line(parts: list[str]) -> str:
    """Arguments as a shell takes them."""
    return " ".join(shlex.quote(part) for part in parts)


def _range(info: FieldInfo) -> str:
    if get_origin(info.annotation) is Literal:
        return " | ".join(map(str, get_args(info.annotation)))
    if info.annotation is bool:
        return "true | false"
    limits = []
    for limit in info.metadata:
        match limit:
            case annotated_types.Gt(gt=bound):
                limits.append(f"> {bound:g}")
            case annotated_types.Ge(ge=bound):
                limits.append(f">= {bound:g}")
            case annotated_types.Lt(lt=bound):
                limits.append(f"< {bound:g}")
            case annotated_types.Le(le=bound):
                limits.append(f"<= {bound:g}")
    return ", ".join(limits)
