"""Figures of a step under names in groups, as TensorBoard and Weights & Biases lay them out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trainer.validation.bins import AREA_BINS

GROUPS: dict[str, str] = {
    "loss": r"loss(_.*)?",
    "weighting": r"(mean_)?weight.*|share_.*|.*_share|status_.*|statuses_.*",
    "optimizer": r"gradient_.*|learning_rate.*|.*_norm|ema_.*|clip.*|prodigy_.*|.*decay.*|.*distance.*",
    "speed": r"samples|tokens|.*_per_second|tflops|mfu|hfu|data_wait|.*seconds.*",
    "memory": r"memory_.*|.*_gib",
    "data": r"bad_samples|skipped.*|epoch.*|dropped_.*|source_.*|bucket_.*",
}
"""Group -> pattern of the whole key in log.jsonl; the first that fits counts."""
OTHER = "other"
"""Group of a key that no pattern fits."""


def scalar_name(key: str) -> str:
    """`group/key` of a key in log.jsonl."""
    group = next((name for name, pattern in GROUPS.items() if re.fullmatch(pattern, key)), OTHER)
    return f"{group}/{key}"


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a step's record by `scalar_name`, those of a nested mapping by `key/inner`; texts, truth values,
    nulls and the step are left out."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            inner = {name: number for name, number in value.items() if _is_number(number)}
            found |= {f"{scalar_name(key)}/{name}": float(number) for name, number in inner.items()}
        elif key != "step" and _is_number(value):
            found[scalar_name(key)] = float(value)
    return found


def validation_name(figure: str) -> str:
    """`group/figure` of a figure of a validation: those by noise level and by edited area, which are many, have
    groups of their own."""
    name = figure.rpartition("/")[2]
    if re.fullmatch(r"loss_t[0-9.]+", name):
        return f"validation_noise/{figure}"
    by_area = any(name.endswith(f"_{area}") for area in AREA_BINS)
    return f"validation_area/{figure}" if by_area else f"validation/{figure}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
