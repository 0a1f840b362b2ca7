"""What one forward pass takes, and how it is put together. Shape legend: B samples; N references over all samples; P, Q
rows and columns of the bucket in pixels; p = P / 8, q = Q / 8 latent cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from schemas.errors import InputError, RowRejected
from trainer.cache.identity import DTYPES
from trainer.cache.read import CachedPlace, joined
from trainer.config import TrainConfig
from trainer.data.buckets import Bucket
from trainer.data.decode import Sample, blank, decode
from trainer.data.dropping import dropped_at
from trainer.data.geometry import Image
from trainer.data.members import read_sample
from trainer.loss.region_loss import region_weights
from unified_model.features import EditFeatures

Cells = npt.NDArray[np.bool_]
Empty = Callable[[tuple[int, ...]], npt.NDArray[np.uint8]]
"""Gives an array of a shape, uint8 and C-contiguous, of any contents."""


def _empty(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.empty(shape, dtype=np.uint8)


class Processor(Protocol):
    """What the loader asks of the model; see `unified_model.processor.EditProcessor`."""

    def prompt(self, instruction: str | None, references: int) -> str:
        """The prompt's text. Raises InputError for an instruction that cannot be used."""

    def __call__(self, instructions: Sequence[str | None], references: Sequence[Sequence[Image]]) -> Any:
        """Instructions and reference images as input tensors."""


@dataclass(frozen=True)
class Place:
    """Where one sample of a micro-batch lies.

    Args:
        position: its position in the run.
        key: its key.
        shard, offset, size: where its bytes are.
        dataset: its data set's position in the mixture.
        cached: where a cache holds it at the size that it is brought to; None where none does.
    """

    position: int
    key: str
    shard: Path
    offset: int
    size: int
    dataset: int
    cached: CachedPlace | None = None


@dataclass(frozen=True)
class BadSample:
    """A sample that cannot be used: its key, its shard, and why."""

    key: str
    shard: str
    reason: str
    sentence: str


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes, on the CPU. All its rows are of one bucket.

    Args:
        positions, keys, shards: of each sample, B long.
        datasets: the name of each sample's data set, B long.
        mask_statuses: of each sample, B long; "none" for an image with a caption, "bad" for a bad sample.
        inputs: what the model's processor made of instructions and references, some of which may have been dropped;
            None where there are `features`.
        target: (B, 3, P, Q) uint8; channels vary fastest in memory. Of no meaning but its shape where there are
            `latents`.
        cells: (B, 1, p, q) bool, True = edited; all True in a row without references.
        weights: (B, 1, p, q) float32.
        usable: (B,) bool; False where a grey picture keeps the place of a bad sample.
        bad: the bad samples.
        references: (N, 3, P, Q) uint8, row after row, the references at the target's size; None where not asked for.
        reference_rows: (N,) int64, the row that each belongs to; None where not asked for.
        latents: (B, C, p, q), the target's from a cache, or None.
        reference_latents: (N, C, p, q), in place of `references`, from a cache; None where not asked for.
        features: the towers' from a cache, or None.
    """

    positions: list[int]
    keys: list[str]
    shards: list[str]
    datasets: list[str]
    mask_statuses: list[str]
    inputs: Any
    target: torch.Tensor
    cells: torch.Tensor
    weights: torch.Tensor
    usable: torch.Tensor
    bad: list[BadSample]
    references: torch.Tensor | None = None
    reference_rows: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    reference_latents: torch.Tensor | None = None
    features: EditFeatures | None = None


class BatchMaker:
    """Reads, decodes and puts together micro-batches; runs in the loader's processes.

    Args:
        processor: the model's; None leaves `MicroBatch.inputs` None, for measurements of the rest.
        with_references: fill `MicroBatch.references`.
    """

    def __init__(self, config: TrainConfig, processor: Processor | None, with_references: bool = False) -> None:
        mixture = config.data.mixture
        self._seed = config.seed
        self._drop = config.data.drop
        self._weighting = config.weighting
        self._names = [str(dataset.name) for dataset in mixture]
        self._weighs = [dataset.region_weighting for dataset in mixture]
        self._processor = processor
        self._with_references = with_references
        self._compute = DTYPES[config.engine.dtype]

    def __call__(self, places: Sequence[Place], bucket: Bucket, empty: Empty = _empty) -> MicroBatch:
        """The micro-batch of the samples at `places`; out of the cache where it holds all of them.

        Args:
            empty: gives memory for pixels.
        """
        cached = [place.cached for place in places if place.cached is not None]
        if len(cached) == len(places):
            try:
                return self._from_cache(places, cached, bucket)
            except RowRejected:
                # What cannot be used of the cache, or of a shard beside it, is told by reading the shard alone.
                return self._from_shards(places, bucket, empty)
        return self._from_shards(places, bucket, empty)

    def _from_shards(self, places: Sequence[Place], bucket: Bucket, empty: Empty) -> MicroBatch:
        target = empty((len(places), bucket.height, bucket.width, 3))
        samples, bad = [], {}
        for row, place in enumerate(places):
            try:
                samples.append(self._sample(place, bucket, target[row]))
            except RowRejected as rejection:
                bad[row] = BadSample(place.key, str(place.shard), rejection.reason, rejection.sentence)
                samples.append(blank(bucket))
                target[row] = samples[-1].target
        cells = [sample.cells for sample in samples]
        return MicroBatch(
            positions=[place.position for place in places],
            keys=[place.key for place in places],
            shards=[str(place.shard) for place in places],
            datasets=[self._names[place.dataset] for place in places],
            mask_statuses=["bad" if row in bad else one.mask_status or "none" for row, one in enumerate(samples)],
            inputs=self._inputs(samples),
            target=torch.from_numpy(target).permute(0, 3, 1, 2),
            cells=torch.from_numpy(np.stack(cells)).unsqueeze(1),
            weights=self._weights(places, cells),
            usable=torch.tensor([row not in bad for row in range(len(places))]),
            bad=list(bad.values()),
            references=_references(samples, bucket, empty) if self._with_references else None,
            reference_rows=_reference_rows(samples) if self._with_references else None,
        )

    def _from_cache(self, places: Sequence[Place], cached: Sequence[CachedPlace], bucket: Bucket) -> MicroBatch:
        dropped = [dropped_at(self._seed, place.position, self._drop) for place in places]
        seen = [0 if what.image else one.references for what, one in zip(dropped, cached, strict=True)]
        stored = [one.latents() for one in cached]
        # Without references there is nothing that could stay as it was.
        cells = [found if images else np.ones_like(found) for (found, _), images in zip(stored, seen, strict=True)]
        features = None
        if all(one.has_features(what) for one, what in zip(cached, dropped, strict=True)):
            rows = [one.features(what) for one, what in zip(cached, dropped, strict=True)]
            features = joined(rows, self._compute)
        samples = [] if features else [self._sample(place, bucket, None, with_target=False) for place in places]
        references, reference_rows = None, None
        if self._with_references:
            references = torch.cat([found[1 : 1 + images] for (_, found), images in zip(stored, seen, strict=True)])
            reference_rows = torch.tensor([row for row, images in enumerate(seen) for _ in range(images)]).long()
        return MicroBatch(
            positions=[place.position for place in places],
            keys=[place.key for place in places],
            shards=[str(place.shard) for place in places],
            datasets=[self._names[place.dataset] for place in places],
            mask_statuses=[one.mask_status for one in cached],
            inputs=None if features else self._inputs(samples),
            target=torch.zeros((), dtype=torch.uint8).expand(len(places), 3, bucket.height, bucket.width),
            cells=torch.from_numpy(np.stack(cells)).unsqueeze(1),
            weights=self._weights(places, cells),
            usable=torch.ones(len(places), dtype=torch.bool),
            bad=[],
            reference_rows=reference_rows,
            latents=torch.stack([found[0] for _, found in stored]),
            reference_latents=references,
            features=features,
        )

    def _weights(self, places: Sequence[Place], cells: Sequence[Cells]) -> torch.Tensor:
        # All ones have the weight 1 everywhere.
        weighed = [
            own if self._weighs[place.dataset] else np.ones_like(own) for place, own in zip(places, cells, strict=True)
        ]
        return region_weights(weighed, self._weighting)

    def _sample(self, place: Place, bucket: Bucket, target: Image | None, with_target: bool = True) -> Sample:
        encoded = read_sample(place.shard, place.offset, place.size)
        dropped = dropped_at(self._seed, place.position, self._drop)
        if self._processor is not None:
            try:
                self._processor.prompt(encoded.instruction, len(encoded.references))
            except InputError as error:
                raise RowRejected("instruction_unusable", f"{error.field}: {error.rule}") from error
        sample = decode(encoded, bucket, not dropped.image, target, with_target)
        return replace(sample, instruction=None) if dropped.text else sample

    def _inputs(self, samples: Sequence[Sample]) -> Any:
        if self._processor is None:
            return None
        return self._processor([one.instruction for one in samples], [one.references for one in samples])


def _references(samples: Sequence[Sample], bucket: Bucket, empty: Empty) -> torch.Tensor:
    images = [image for sample in samples for image in sample.references]
    stacked = empty((len(images), bucket.height, bucket.width, 3))
    for row, image in enumerate(images):
        stacked[row] = image
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def _reference_rows(samples: Sequence[Sample]) -> torch.Tensor:
    rows = [row for row, sample in enumerate(samples) for _ in sample.references]
    return torch.tensor(rows, dtype=torch.int64)
