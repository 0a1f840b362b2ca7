"""How the masks of the data sets that arms train on agree: each with the masks of `train`, on the latent grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.ablation.config import AblationConfig
from jobs.ablation.runs import Run
from schemas.errors import ConfigError
from trainer.config import TrainConfig
from trainer.data.buckets import bucket_table, nearest_bucket
from trainer.data.decode import decode
from trainer.data.members import read_sample
from trainer.data.training_data import open_data
from trainer.validation.bins import AREA_BINS, area_bin

COMPARED = 1000
"""Samples whose masks are held against each other."""


@dataclass(frozen=True)
class Agreement:
    """One data set's masks against those of `train`.

    Args:
        arms: which train on it.
        overlap: bin of the edited area by the masks of `train` -> mean intersection over union on the latent grid, in
            0..1; bins without a sample are left out.
        size: the same bins -> mean edited area over that of `train`'s mask, on the latent grid.
    """

    arms: tuple[str, ...]
    overlap: Mapping[str, float]
    size: Mapping[str, float]


def data_of_arms(config: AblationConfig, runs: Sequence[Run]) -> dict[str, TrainConfig]:
    """Name of a data set that arms train on -> the training config of the first run that does, `train` first."""
    arms = config.all_arms()
    found: dict[str, TrainConfig] = {}
    for run in sorted(runs, key=lambda run: arms[run.arm].data != "train"):
        found.setdefault(arms[run.arm].data, run.config)
    return found


def check_same_samples(config: AblationConfig, runs: Sequence[Run]) -> None:
    """Look whether the data sets of the arms hold the same samples in the same order, so that arms differ in masks
    alone.

    Raises:
        ConfigError: one holds others.
        InputError, ShardError: as `trainer.data.training_data.open_data`.
    """
    trained = data_of_arms(config, runs)
    if len(trained) < 2:
        return
    opened = {name: open_data(train, 1) for name, train in trained.items()}
    first = next(iter(opened))
    for name, data in opened.items():
        if data.fingerprint != opened[first].fingerprint:
            raise ConfigError(
                f"data.{name}",
                f"{len(data.index)} samples",
                f"must hold the same samples as data.{first} ({len(opened[first].index)}), or its arms would differ in "
                "more than their masks",
                "Make both from one source, with keep_statuses: [ok, global, unchanged, too_small, misaligned] in the "
                "step that makes the masks, and those mask_statuses in train.data.",
            )


def mask_agreement(config: AblationConfig, runs: Sequence[Run]) -> dict[str, Agreement]:
    """Every data set of the arms but the first against the first; empty where all train on one.

    Raises:
        InputError, ShardError: a sample cannot be read.
        RowRejected: a sample cannot be decoded.
    """
    trained = data_of_arms(config, runs)
    first, *others = trained
    if not others:
        return {}
    index = open_data(trained[first], 1).index
    bins = [area_bin(*index.area(number)) for number in range(min(len(index), COMPARED))]
    truth = _cells(trained[first])
    found = {}
    for name in others:
        masks = _cells(trained[name])
        overlap: dict[str, float] = {}
        size: dict[str, float] = {}
        for area in AREA_BINS:
            pairs = [(one, true) for one, true, of in zip(masks, truth, bins, strict=True) if of == area and true.any()]
            if pairs:
                overlap[area] = float(np.mean([(one & true).sum() / (one | true).sum() for one, true in pairs]))
                size[area] = float(np.mean([one.sum() / true.sum() for one, true in pairs]))
        arms = tuple(arm for arm, values in config.all_arms().items() if values.data == name)
        found[name] = Agreement(arms, overlap, size)
    return found


def _cells(train: TrainConfig) -> list[npt.NDArray[np.bool_]]:
    """The masks of the first samples on the latent grid, (h, w) bool each."""
    index = open_data(train, 1).index
    table = bucket_table(train.data.resolution, train.data.buckets)
    nearest = nearest_bucket(table, index.widths, index.heights)
    return [
        decode(
            read_sample(index.shard(number), *index.span(number)), table[int(nearest[number])], with_target=False
        ).cells
        for number in range(min(len(index), COMPARED))
    ]
