"""What one forward pass takes, and how it is put together. Shape legend: B samples; N references over all samples; P, Q
rows and columns of the bucket in pixels; p = P / 8, q = Q / 8 latent cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from schemas.errors import InputError, RowRejected
from trainer.config import TrainConfig
from trainer.data.buckets import Bucket
from trainer.data.decode import Sample, blank, decode
from trainer.data.dropping import dropped_at
from trainer.data.geometry import Image
from trainer.data.members import read_sample
from trainer.loss.region_loss import region_weights


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
    """

    position: int
    key: str
    shard: Path
    offset: int
    size: int
    dataset: int


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
        inputs: what the model's processor made of instructions and references, some of which may have been dropped.
        target: (B, 3, P, Q) uint8; channels vary fastest in memory.
        cells: (B, 1, p, q) bool, True = edited; all True in a row without references.
        weights: (B, 1, p, q) float32.
        usable: (B,) bool; False where a grey picture keeps the place of a bad sample.
        bad: the bad samples.
        references: (N, 3, P, Q) uint8, row after row, the references at the target's size; None where not asked for.
        reference_rows: (N,) int64, the row that each belongs to; None where not asked for.
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

    def __call__(self, places: Sequence[Place], bucket: Bucket) -> MicroBatch:
        """The micro-batch of the samples at `places`."""
        target = np.empty((len(places), bucket.height, bucket.width, 3), dtype=np.uint8)
        samples, bad = [], {}
        for row, place in enumerate(places):
            try:
                samples.append(self._sample(place, bucket, target[row]))
            except RowRejected as rejection:
                bad[row] = BadSample(place.key, str(place.shard), rejection.reason, rejection.sentence)
                samples.append(blank(bucket))
                target[row] = samples[-1].target
        cells = np.stack([sample.cells for sample in samples])
        # All ones have the weight 1 everywhere.
        weighed = [
            sample.cells if self._weighs[place.dataset] else np.ones_like(sample.cells)
            for place, sample in zip(places, samples, strict=True)
        ]
        return MicroBatch(
            positions=[place.position for place in places],
            keys=[place.key for place in places],
            shards=[str(place.shard) for place in places],
            datasets=[self._names[place.dataset] for place in places],
            mask_statuses=["bad" if row in bad else one.mask_status or "none" for row, one in enumerate(samples)],
            inputs=self._inputs(samples),
            target=torch.from_numpy(target).permute(0, 3, 1, 2),
            cells=torch.from_numpy(cells).unsqueeze(1),
            weights=region_weights(weighed, self._weighting),
            usable=torch.tensor([row not in bad for row in range(len(places))]),
            bad=list(bad.values()),
            references=self._references(samples, bucket) if self._with_references else None,
            reference_rows=self._reference_rows(samples) if self._with_references else None,
        )

    def _sample(self, place: Place, bucket: Bucket, target: Image) -> Sample:
        encoded = read_sample(place.shard, place.offset, place.size)
        dropped = dropped_at(self._seed, place.position, self._drop)
        if self._processor is not None:
            try:
                self._processor.prompt(encoded.instruction, len(encoded.references))
            except InputError as error:
                raise RowRejected("instruction_unusable", f"{error.field}: {error.rule}") from error
        sample = decode(encoded, bucket, with_references=not dropped.image, target=target)
        return replace(sample, instruction=None) if dropped.text else sample

    def _inputs(self, samples: Sequence[Sample]) -> Any:
        if self._processor is None:
            return None
        return self._processor([one.instruction for one in samples], [one.references for one in samples])

    @staticmethod
    def _references(samples: Sequence[Sample], bucket: Bucket) -> torch.Tensor:
        images = [image for sample in samples for image in sample.references]
        stacked = np.stack(images) if images else np.empty((0, bucket.height, bucket.width, 3), dtype=np.uint8)
        return torch.from_numpy(stacked).permute(0, 3, 1, 2)

    @staticmethod
    def _reference_rows(samples: Sequence[Sample]) -> torch.Tensor:
        rows = [row for row, sample in enumerate(samples) for _ in sample.references]
        return torch.tensor(rows, dtype=torch.int64)
