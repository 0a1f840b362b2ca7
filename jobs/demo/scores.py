"""How near the recipes' masks come to the known regions of the demo's pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from schemas.errors import RowRejected


@dataclass(frozen=True)
class MaskScore:
    """One pair under one recipe.

    Args:
        kind: of the edit.
        recipe: name of the mask recipe.
        iou: on the 8x max-pooled grid, in 0..1.
        weight_error: relative error of w = log2(x) + 1.
    """

    kind: str
    recipe: str
    iou: float
    weight_error: float


def score_masks(pairs: Path, known: Path, recipes: Sequence[str]) -> list[MaskScore]:
    """Run each recipe, with its own defaults, on every pair whose region is known and whose images can be read.

    Args:
        pairs: the JSONL file.
        known: the Parquet file of known regions.
    """
    from pipelines.masks.registry import make_recipe
    from pipelines.masks.score import pooled_iou, weight_error
    from pipelines.sources.edit_pairs_jsonl import EditPairsJsonl, EditPairsJsonlConfig
    from schemas.images import decode_image, decode_mask

    regions = {row["key"]: row for row in pq.read_table(known).to_pylist()}
    source = EditPairsJsonl(EditPairsJsonlConfig(path=str(pairs)))
    scores = []
    for partition in source.partitions():
        for row in source.read(partition).kept.to_pylist():
            region = regions.get(row["key"])
            if region is None or region["kind"] == "unchanged":
                continue
            try:
                references = [decode_image(reference["bytes"]) for reference in row["references"]]
                target = decode_image(row["target"]["bytes"])
            except RowRejected:
                continue
            true = decode_mask(region["mask"])
            for name in recipes:
                mask = make_recipe(name, {}).build(references, target).mask
                score = MaskScore(region["kind"], name, pooled_iou(mask, true), weight_error(mask, true))
                scores.append(score)
    return scores
