"""The pairs that a mask report shows, decoded, with the masks of both recipes.

Only these few are read. A kept pair has its mask stored; a rejected one is read from the source again, as it came to
the step `masks`, and its mask built once more: the same pair, recipe and parameters give the same mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.chain import Chain, Plan
from jobs.report.mask_rows import MaskRow
from jobs.run_folder import RunFolder
from jobs.run_manifest import RunManifest
from jobs.work import PartitionLoader
from pipelines.masks.difference import Mask, Pixels
from pipelines.masks.registry import RECIPES, make_recipe
from pipelines.masks.step import EditMasks, EditMasksConfig
from pipelines.preview.picture import fitted_size, resize_to, shrink_mask
from pipelines.shards.read import PackedFolder, open_packed
from schemas.images import HARD_MAX_PIXELS, decode_mask

SIDE = 320
"""Longest side of a picture on the page, in pixels."""


@dataclass(frozen=True)
class MaskedPair:
    """One pair as it is shown: of one size, no side longer than `SIDE` pixels.

    Args:
        references, target: (H, W, 3) uint8.
        mask: (H, W) bool.
        other: the second recipe's mask; None where there is none, or its recipe has changed since.
        instruction: as the record has it.
    """

    references: list[Pixels]
    target: Pixels
    mask: Mask
    other: Mask | None
    instruction: str


def pairs_of_run(
    rows: Iterable[MaskRow], manifest: RunManifest, folder: RunFolder, chain: Chain
) -> dict[str, MaskedPair]:
    """Key -> pair of the rows given.

    Raises:
        EditmillError: the source or a file of the run cannot be read any more.
    """
    kept: dict[str, dict[str, MaskRow]] = defaultdict(dict)
    rejected: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.reason is None:
            kept[row.partition][row.key] = row
        else:
            rejected[row.partition].add(row.key)
    pairs: dict[str, MaskedPair] = {}
    if kept and manifest.shards is not None:
        pairs.update(pairs_of_shards(kept.pop("").values(), open_packed(Path(manifest.shards))))
    for entry in manifest.partitions:
        if entry.name in kept and entry.records is not None:
            found = pq.read_table(
                folder.path / entry.records.name, filters=pc.field("key").isin(list(kept[entry.name]))
            )
            for values in found.to_pylist():
                pairs[values["key"]] = _stored(values, kept[entry.name][values["key"]])
    if rejected:
        pairs.update(_built(rejected, folder, chain))
    return pairs


def pairs_of_shards(rows: Iterable[MaskRow], packed: PackedFolder) -> dict[str, MaskedPair]:
    """Key -> pair of the rows given.

    Raises:
        ShardError: a shard is missing or damaged.
    """
    return {row.key: _stored(packed.sample(row.key), row) for row in rows}


def _stored(values: Mapping[str, Any], row: MaskRow) -> MaskedPair:
    reader = EditMasks(EditMasksConfig(on_size_mismatch="resize_reference", max_pixels=HARD_MAX_PIXELS))
    references, target = reader.decode_pair(values["references"], values["target"])
    other, compared = None, row.compared
    if compared is not None:
        recipe = RECIPES.get(compared["recipe"])
        if recipe is not None and recipe.version == compared["recipe_version"]:
            other = make_recipe(compared["recipe"], {}).build(references, target).mask
    return _shrunk(references, target, decode_mask(values["mask"]["bytes"]), other, values["instruction"])


def _built(wanted: Mapping[str, set[str]], folder: RunFolder, chain: Chain) -> dict[str, MaskedPair]:
    position, step = next((place, one) for place, one in enumerate(chain.steps) if isinstance(one, EditMasks))
    before = Plan(chain.plan.source, chain.plan.stages[: position + 1])
    pairs = {}
    for partition in before.source.partitions():
        keys = wanted.get(partition.name)
        if not keys:
            continue
        table = PartitionLoader(before, folder, partition)()
        found = table.filter(pc.is_in(table["key"], value_set=pa.array(sorted(keys), pa.string())))
        for number in range(found.num_rows):
            values = found.slice(number, 1).to_pylist()[0]
            references, target = step.decode_pair(values["references"], values["target"])
            other = None if step.other is None else step.other.build(references, target).mask
            mask = step.recipe.build(references, target).mask
            pairs[values["key"]] = _shrunk(references, target, mask, other, values.get("instruction") or "")
    return pairs


def _shrunk(references: list[Pixels], target: Pixels, mask: Mask, other: Mask | None, instruction: str) -> MaskedPair:
    """At once, so that a page of large pairs never holds more than one of them whole."""
    height, width = target.shape[:2]
    if max(height, width) > SIDE:
        height, width = fitted_size(height, width, SIDE, SIDE)
    small = [resize_to(image, height, width) for image in references]
    second = None if other is None else shrink_mask(other, height, width)
    return MaskedPair(small, resize_to(target, height, width), shrink_mask(mask, height, width), second, instruction)
