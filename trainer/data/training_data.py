"""The samples of a run, in order: opened, put into buckets, and found to be enough, before anything is built."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigError, InputError
from trainer.config import TrainConfig
from trainer.data.buckets import Bucket, bucket_table, merged, nearest_bucket
from trainer.data.order import Order
from trainer.data.shards import ShardIndex, joined, open_shards


@dataclass(frozen=True)
class BucketCount:
    """A line of the table that a run prints.

    Args:
        samples: whose target's aspect ratio is nearest to the bucket's.
        merged_into: the bucket that takes them, where they are too few to fill this one.
    """

    bucket: Bucket
    samples: int
    merged_into: Bucket | None


@dataclass(frozen=True)
class DatasetCount:
    """A line of the table that a run prints.

    Args:
        share: of the samples that the run takes, 0 to 1.
    """

    name: str
    samples: int
    share: float


@dataclass(frozen=True)
class TrainingData:
    """The samples of a run.

    Args:
        index: where they lie.
        order: which of them stands at which position, in which bucket.
        buckets: by the number that `order` gives.
        bucket_counts, dataset_counts: what there is of each.
    """

    index: ShardIndex
    order: Order
    buckets: tuple[Bucket, ...]
    bucket_counts: tuple[BucketCount, ...]
    dataset_counts: tuple[DatasetCount, ...]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the samples in the order of the index, with what decides their bucket: a position
        of the run means the same sample only where this is the same."""
        digest = hashlib.blake2b(digest_size=8)
        for column in (self.index.keys, self.index.datasets, self.index.widths, self.index.heights):
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()

    def keys_at(self, positions: Sequence[int]) -> list[str]:
        """The keys of the samples at positions of the run."""
        return [self.index.key(sample) for sample in self.order.samples_at(positions).tolist()]

    def lines(self) -> list[str]:
        """What a person should know at the start: data sets with their shares, and the buckets."""
        lines = []
        if len(self.dataset_counts) > 1:
            lines += [f"{one.samples:>15,}  of {one.name}, {one.share:.1%} of the run" for one in self.dataset_counts]
        for one in self.bucket_counts:
            into = "" if one.merged_into is None else f", too few to fill it: taken to {one.merged_into.name}"
            size = f"{one.bucket.width} x {one.bucket.height}, {one.bucket.tokens:,} tokens"
            lines.append(f"{one.samples:>15,}  in bucket {one.bucket.name} ({size}){into}")
        return lines


def open_data(config: TrainConfig, ranks: int) -> TrainingData:
    """The samples of the run, once it is clear that they fill a global batch.

    Raises:
        ConfigError: too few samples, or a `bucket_rows` that does not fit the batch.
        InputError: a data set without samples.
        InputError, ShardError, SchemaError: as `trainer.data.shards.open_shards`.
    """
    rows = _block_rows(config, ranks)
    index = _open_mixture(config)
    mixture = config.data.mixture
    weights = [dataset.weight for dataset in mixture]
    _check_enough(config, index, ranks)
    table = bucket_table(config.data.resolution, config.data.buckets)
    nearest = nearest_bucket(table, index.widths, index.heights)
    counts = _counts(index.datasets, nearest, len(mixture), len(table))
    target = merged(table, counts, weights, rows)
    order = Order(config.seed, target.astype(np.uint8)[nearest], index.datasets, weights, rows)
    return TrainingData(
        index,
        order,
        table,
        tuple(
            BucketCount(bucket, samples, None if into == number else table[into])
            for number, (bucket, samples, into) in enumerate(
                zip(table, counts.sum(axis=0).tolist(), target.tolist(), strict=True)
            )
            if samples
        ),
        tuple(
            DatasetCount(str(dataset.name), samples, dataset.weight / sum(weights))
            for dataset, samples in zip(mixture, counts.sum(axis=1).tolist(), strict=True)
        ),
    )


def _block_rows(config: TrainConfig, ranks: int) -> int:
    whole = config.global_batch(ranks)
    rows = whole if config.data.bucket_rows is None else config.data.bucket_rows
    if rows % config.batch_size or whole % rows:
        raise ConfigError(
            "data.bucket_rows",
            rows,
            f"must be a multiple of batch_size = {config.batch_size} that divides the global batch of {whole}",
            f"Take {config.batch_size * ranks} for one size on every rank at a time, or null for the global batch.",
        )
    return rows


def _open_mixture(config: TrainConfig) -> ShardIndex:
    parts = []
    for number, dataset in enumerate(config.data.mixture):
        folders = [Path(folder) for folder in dataset.shards]
        part = open_shards(folders, set(dataset.mask_statuses or ()), dataset.subsets or ())
        if not len(part):
            raise InputError(
                "data",
                dataset.name,
                f"holds no sample that may be taken (left out: {part.left_out})",
                "Accept more mask statuses or subsets, or leave it out of the mixture.",
            )
        parts.append(replace(part, datasets=np.full(len(part), number, dtype=np.uint8)))
    return joined(parts)


def _check_enough(config: TrainConfig, index: ShardIndex, ranks: int) -> None:
    """No global batch needs a sample of a data set twice."""
    needed = config.global_batch(ranks)
    mixture = config.data.mixture
    total = sum(dataset.weight for dataset in mixture)
    counts = np.bincount(index.datasets, minlength=len(mixture)).tolist()
    if len(mixture) == 1 and len(index) < needed:
        raise ConfigError(
            "batch_size x gradient_accumulation x ranks",
            needed,
            f"is more than the {len(index)} samples of the shards (left out: {index.left_out})",
            "Lower it, add shards, or accept more mask statuses or subsets.",
        )
    for dataset, samples in zip(mixture, counts, strict=True):
        share = math.ceil(needed * dataset.weight / total - 1e-9)
        if samples < share:
            raise ConfigError(
                "data.datasets",
                dataset.name,
                f"has {samples} samples where a global batch of {needed} takes {share} of it",
                f"Lower its weight to {samples * (total - dataset.weight) / (needed - samples):.3g}, or the batch.",
            )


def _counts(
    datasets: npt.NDArray[np.uint8], buckets: npt.NDArray[np.uint8], dataset_count: int, bucket_count: int
) -> npt.NDArray[np.int64]:
    """(data sets, buckets) samples."""
    pairs = datasets.astype(np.int64) * bucket_count + buckets
    return np.bincount(pairs, minlength=dataset_count * bucket_count).reshape(dataset_count, bucket_count)
