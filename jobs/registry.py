"""Sources and steps by the name a pipeline config uses. A class is imported when it is asked for.

To make a new step known, add one line here: its name and "module:Class".
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pipelines.source import Source
from pipelines.step import Step
from schemas.config import Config, parse_config
from schemas.errors import ConfigError, ContractError

SOURCES: dict[str, str] = {
    "edit_pairs_jsonl": "pipelines.sources.edit_pairs_jsonl:EditPairsJsonl",
    "edit_pairs_parquet": "pipelines.sources.edit_pairs_parquet:EditPairsParquet",
    "failed_rows": "jobs.failed_rows:FailedRows",
    "image_records_parquet": "pipelines.sources.image_records_parquet:ImageRecordsParquet",
    "img2dataset": "pipelines.sources.img2dataset:Img2dataset",
    "imgedit": "pipelines.sources.imgedit:ImgEdit",
    "instructpix2pix": "pipelines.sources.instructpix2pix:InstructPix2Pix",
    "laion_parquet": "pipelines.metadata_filter.source:LaionParquet",
    "lessons": "pipelines.sources.lessons:Lessons",
    "magicbrush": "pipelines.sources.magicbrush:MagicBrush",
    "omniedit": "pipelines.sources.omniedit:OmniEdit",
    "packed_shards": "pipelines.sources.packed_shards:PackedShards",
    "run_records": "jobs.run_records:RunRecords",
    "ultraedit": "pipelines.sources.ultraedit:UltraEdit",
    "uniworld_data": "pipelines.sources.uniworld_data:UniWorldData",
}
"""Source name -> where its class is."""

STEPS: dict[str, str] = {
    "aesthetic": "pipelines.aesthetic.step:Aesthetic",
    "declared_masks": "pipelines.masks.declared:DeclaredMasks",
    "deduplicate": "pipelines.deduplicate.step:Deduplicate",
    "fetch": "pipelines.fetch.step:Fetch",
    "judge": "pipelines.judge.step:Judge",
    "leakage": "pipelines.leakage.step:Leakage",
    "local_images": "pipelines.local_images:LocalImages",
    "masks": "pipelines.masks.step:EditMasks",
    "pair_bounds": "pipelines.pair_bounds.step:PairBounds",
    "perceptual_hash": "pipelines.deduplicate.hash_step:PerceptualHash",
    "quantile": "pipelines.quantile.step:Quantile",
    "recaption": "pipelines.recaption.step:Recaption",
    "review": "pipelines.review.step:Review",
    "write_instructions": "pipelines.recaption.write_instructions:WriteInstructions",
}
"""Step name -> where its class is."""


def make_source(name: str, values: Mapping[str, Any], where: str) -> Source[Any]:
    """The source called `name` with a validated config.

    Args:
        values: the config's keys and values.
        where: what they came from, for errors.

    Raises:
        ConfigError: no such source, or the config breaks a rule.
    """
    source_class: type[Source[Any]] = _find(SOURCES, name, "source", where)
    return source_class(parse_config(source_class.config_class, values, f"{where}.{name}"))


def make_step(name: str, values: Mapping[str, Any], where: str) -> Step[Any]:
    """The step called `name` with a validated config; arguments and errors as for `make_source`."""
    step_class: type[Step[Any]] = _find(STEPS, name, "step", where)
    return step_class(parse_config(step_class.config_class, values, f"{where}.{name}"))


def source_config_class(name: str, where: str) -> type[Config]:
    """The config class of the source called `name`; errors as for `make_source`."""
    config_class: type[Config] = _find(SOURCES, name, "source", where).config_class
    return config_class


def step_config_class(name: str, where: str) -> type[Config]:
    """The config class of the step called `name`; errors as for `make_step`."""
    config_class: type[Config] = _find(STEPS, name, "step", where).config_class
    return config_class


def _find(table: Mapping[str, str], name: str, kind: str, where: str) -> Any:
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        mend = f"Did you mean '{close[0]}'?" if close else f"Known {kind}s: {', '.join(sorted(table))}."
        raise ConfigError(where, name, f"is no known {kind}", mend)
    module, _, attribute = table[name].partition(":")
    found = getattr(import_module(module), attribute)
    if found.name != name:
        raise ContractError(
            f"registry of {kind}s", name, f"{attribute} calls itself '{found.name}'", "Give both the same name."
        )
    return found
