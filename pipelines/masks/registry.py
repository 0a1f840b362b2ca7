"""Every mask recipe by name. To add one: a file beside this one with its class, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.masks.recipe import MaskRecipe
from pipelines.masks.robust.recipe import RobustRecipe
from pipelines.masks.seed import SeedRecipe
from pipelines.masks.uniworld import UniWorldRecipe
from schemas.config import parse_config
from schemas.errors import ConfigError

RECIPES: dict[str, type[MaskRecipe[Any]]] = {
    recipe.name: recipe for recipe in (RobustRecipe, SeedRecipe, UniWorldRecipe)
}
"""Name -> recipe class."""


def make_recipe(name: str, parameters: Mapping[str, Any]) -> MaskRecipe[Any]:
    """The recipe called `name` with `parameters`, those not given at their defaults.

    Raises:
        ConfigError: no such recipe, no such parameter, or a value out of range.
    """
    if name not in RECIPES:
        raise ConfigError("masks.recipe", name, f"must be one of {', '.join(RECIPES)}", "Correct the name.")
    recipe = RECIPES[name]
    return recipe(parse_config(recipe.parameters_class, parameters, f"masks.parameters of '{name}'"))
