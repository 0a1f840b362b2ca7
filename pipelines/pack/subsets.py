"""Which subset a sample is in: a pure function of what it is, never of its place in the input or of chance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.pack.config import PackConfig, SubsetRule

UInt64 = npt.NDArray[np.uint64]
Int16 = npt.NDArray[np.int16]
Int64 = npt.NDArray[np.int64]


def image_number(data: bytes) -> int:
    """The first 64 bits of an image's SHA-256: what it is known by while samples are grouped. Two images with one
    number would share a subset, and no more than that."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8])


def images_of(row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """The numbers of a row's references and of its target; the one image of an image-caption row is a reference."""
    if "target" not in row:
        return [image_number(row["image"]["bytes"])], []
    return [image_number(image["bytes"]) for image in row["references"]], [image_number(row["target"]["bytes"])]


def rule_of(row: Mapping[str, Any], config: PackConfig) -> int:
    """Position, among the subsets' names, of the first rule that takes a row; -1 where none does."""
    for position, rule in enumerate(config.subsets.values()):
        if isinstance(rule, SubsetRule) and _takes(rule, row):
            return position
    return -1


def groups_by_image(images: UInt64, references: npt.NDArray[np.int32], targets: bool) -> UInt64:
    """The group of each sample, samples being in one where they share an image, directly or through others.

    Args:
        images: numbers of all samples' images, one sample's after the other's: its references, then its target.
        references: how many references each sample has, >= 1; N long.
        targets: whether samples have a target.

    Returns:
        N numbers: of the group's original image (the smallest number, where it has several), which is a reference that
        is no sample's target; of any image, where each was made. So further turns and edits of an image change nothing.
    """
    counts = references + int(targets)
    last = np.cumsum(counts, dtype=np.int64) - 1
    first = last - counts + 1
    distinct, places = np.unique(images, return_inverse=True)
    label = _components(len(distinct), places, np.repeat(places[first], counts))
    rank = np.arange(len(distinct))
    if targets:
        # The numbers are ascending, so the smallest place is the smallest number; made images rank behind all others.
        rank[places[last]] += len(distinct)
    best = np.full(len(distinct), 2 * len(distinct), np.int64)
    np.minimum.at(best, label, rank)
    groups: UInt64 = distinct[best[label[places[first]]] % max(len(distinct), 1)]
    return groups


def drawn(numbers: UInt64, config: PackConfig) -> Int16:
    """Position, among the subsets' names, of the share that each number draws; the same number draws the same."""
    # The finaliser of splitmix64: the smallest of several hashes is no even draw, and this makes it one.
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    even = (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
    shares = [(place, value) for place, value in enumerate(config.subsets.values()) if isinstance(value, float)]
    ends = np.cumsum([value for _, value in shares])
    places = np.array([place for place, _ in shares], np.int16)
    # The last share ends at 1 whatever its rounding.
    return places[np.minimum(np.searchsorted(ends, even, side="right"), len(shares) - 1)]


def _components(count: int, near: Int64, far: Int64) -> Int64:
    """Label of each of `count` nodes: the smallest node that edges near[i] - far[i] connect it with."""
    label = np.arange(count)
    while True:
        before = label.copy()
        smaller = np.minimum(label[near], label[far])
        np.minimum.at(label, label[near], smaller)
        np.minimum.at(label, label[far], smaller)
        while not np.array_equal(jumped := label[label], label):
            label = jumped
        if np.array_equal(label, before):
            return label


def _takes(rule: SubsetRule, row: Mapping[str, Any]) -> bool:
    fraction = row.get("edited_fraction", 0.0)
    wanted: Sequence[tuple[Sequence[str], str]] = (
        (rule.mask_statuses, "mask_status"),
        (rule.edit_types, "edit_type"),
        (rule.sources, "source"),
    )
    return (
        (rule.min_edited_fraction is None or fraction >= rule.min_edited_fraction)
        and (rule.max_edited_fraction is None or fraction <= rule.max_edited_fraction)
        and all(not values or row.get(column) in values for values, column in wanted)
    )
