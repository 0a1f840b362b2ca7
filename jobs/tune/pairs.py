"""The pairs that are tuned on: chosen by a seed, decoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.samples.base import Samples, Unreadable
from pipelines.masks.difference import Pixels
from pipelines.masks.step import EditMasks
from pipelines.preview.sampling import choose
from schemas.errors import InputError, RowRejected


@dataclass(frozen=True)
class TunedPair:
    """One pair.

    Args:
        row: its columns, without the images' bytes.
        references, target: (H, W, 3) uint8 of one size.
    """

    row: Mapping[str, Any]
    references: Sequence[Pixels]
    target: Pixels


def tuned_pairs(samples: Samples, step: EditMasks, count: int, seed: int) -> tuple[list[TunedPair], list[Unreadable]]:
    """The pairs that `seed` chooses, in their order, and those of them that cannot be masked.

    Args:
        step: how sizes are treated.

    Raises:
        InputError: there is no sample, or samples have no pair.
    """
    if not len(samples) or samples.kind != "edits":
        rule = "holds no sample" if not len(samples) else "holds images with captions, no pairs"
        raise InputError("pairs", samples.name, rule, "Name before/after pairs.")
    pairs: list[TunedPair] = []
    refused: list[Unreadable] = []
    for row in samples.rows(choose(samples.statuses(), count, seed, samples.fractions())):
        if isinstance(row, Unreadable):
            refused.append(row)
            continue
        try:
            references, target = step.decode_pair(row["references"], row["target"])
        except RowRejected as rejection:
            refused.append(Unreadable(row["key"], rejection.sentence))
        else:
            # The encoded images are done with; the target's name is still shown.
            kept = {name: value for name, value in row.items() if name not in ("references", "mask")}
            pairs.append(TunedPair({**kept, "target": {"path": row["target"]["path"]}}, references, target))
    return pairs, refused
