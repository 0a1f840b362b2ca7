"""What a packed folder holds, counted: where samples come from, their masks, and what models wrote.

Counters add up over shards, so that nothing is held a sample. A topic with very many different values keeps the most
frequent; the rest is one number.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from schemas.atomic import canonical_json
from schemas.layout import aspect_bucket

Contents = Counter[tuple[str, str]]
"""(topic, canonical JSON of what is counted) -> samples."""

MOST_VALUES = 100
"""Different values of a topic that are told one by one."""

AREA_BOUNDS = (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Borders of the classes of edited fraction; the lower one of a class is exclusive but for 0."""

_WRITTEN = ("kind", "model", "prompt", "prompt_version", "prompt_sha256")


def count_row(contents: Contents, row: Mapping[str, Any], width: int, height: int) -> None:
    """Count one sample.

    Args:
        width, height: of the upright image that it trains, in pixels.
    """
    contents["sources", canonical_json({name: row.get(name) for name in ("source", "licence")})] += 1
    contents["aspect_buckets", canonical_json({"bucket": aspect_bucket(width, height)})] += 1
    for written in {canonical_json({name: one[name] for name in _WRITTEN}) for one in row.get("captions") or ()}:
        contents["captions", written] += 1
    if "mask_status" not in row:
        return
    contents["references", canonical_json({"references": len(row["references"])})] += 1
    contents["edit_types", canonical_json({"edit_type": row["edit_type"]})] += 1
    contents["mask_statuses", canonical_json({"mask_status": row["mask_status"]})] += 1
    contents["edited_areas", canonical_json(_area(row["edited_fraction"]))] += 1
    recipe = {name: row[f"mask_{name}"] for name in ("recipe", "recipe_version", "parameters")}
    contents["mask_recipes", canonical_json(recipe)] += 1
    judged = _judge(row)
    if judged is not None:
        contents["judges", canonical_json(judged)] += 1


def listed(contents: Contents) -> dict[str, list[dict[str, Any]]]:
    """Topic -> its values with their number of `samples`, the most first; what is beyond `MOST_VALUES` is one entry
    with the key `others`: how many values it stands for."""
    topics: dict[str, list[tuple[int, str]]] = {}
    for (topic, text), samples in contents.items():
        topics.setdefault(topic, []).append((-samples, text))
    result: dict[str, list[dict[str, Any]]] = {}
    for topic, values in sorted(topics.items()):
        values.sort()
        result[topic] = [{**json.loads(text), "samples": -samples} for samples, text in values[:MOST_VALUES]]
        rest = values[MOST_VALUES:]
        if rest:
            result[topic].append({"others": len(rest), "samples": -sum(samples for samples, _ in rest)})
    return result


def _area(fraction: float) -> dict[str, float]:
    above, to = next((above, to) for above, to in pairwise(AREA_BOUNDS) if fraction <= to)
    return {"above": above, "to": to}


def _judge(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What gave a row's scores; a value that is no evidence of ours tells only the names of the scores."""
    scores = row["judge_scores"]
    if not scores:
        return None
    try:
        evidence = json.loads(row["judge_evidence"] or "{}")
    except ValueError:
        evidence = {}
    evidence = evidence if isinstance(evidence, dict) else {}
    names = {name: evidence.get(name) for name in _WRITTEN[1:]}
    return {"scores": sorted(name for name, _ in scores), **names}
