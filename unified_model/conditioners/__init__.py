"""Conditioners by name. A new one is a file here, a line in `CONDITIONERS` and a test."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers.utils import CONFIG_NAME

from schemas.errors import InputError
from unified_model.components import locate
from unified_model.conditioners.base import Conditioner, Widths
from unified_model.conditioners.mlp import MlpConditioner
from unified_model.conditioners.queries import QueryConditioner

__all__ = ["CONDITIONERS", "Conditioner", "MlpConditioner", "QueryConditioner", "Widths", "load_conditioner"]

CONDITIONERS: dict[str, type[Conditioner]] = {cls.name: cls for cls in (MlpConditioner, QueryConditioner)}
"""Name -> class."""


def load_conditioner(source: str | Path, **keywords: object) -> Conditioner:
    """The conditioner saved under `source`, of whichever class its config.json names.

    Raises:
        InputError: the config names a class that `CONDITIONERS` does not hold.
    """
    found = locate(source)
    folder = Path(found.name)
    known = {cls.__name__: cls for cls in CONDITIONERS.values()}
    if folder.is_dir():
        config = folder / CONFIG_NAME
        if not config.is_file():
            raise InputError("conditioner", str(source), f"holds no {CONFIG_NAME}", "Check the folder.")
        class_name = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
    else:
        class_name = Conditioner.load_config(found.name, **found.subfolder).get("_class_name")
    if class_name not in known:
        raise InputError(
            "conditioner", class_name, f"must be one of {', '.join(known)}", "Register its class in CONDITIONERS."
        )
    loaded: Conditioner = known[class_name].from_pretrained(found.name, **found.subfolder, **keywords)
    return loaded
