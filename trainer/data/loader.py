"""From position to micro-batch: decode, crop, pool the mask, weigh, and prepare the model's inputs.

Shape legend: B samples of a micro-batch; R resolution in pixels; h = w = R / 8 latent cells.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from schemas.errors import ConfigError, InputError, RowRejected
from schemas.images import decode_image, decode_mask
from schemas.masks import LATENT_STRIDE, MaskStatus
from trainer.config import TrainConfig
from trainer.data.geometry import Image, apply_to_image, choose_crop, latent_cells
from trainer.data.order import Order, step_positions
from trainer.data.shards import EncodedSample, ShardIndex, open_shards, read_sample
from trainer.loss.region_loss import region_weights


class Processor(Protocol):
    """What the loader asks of the model; see `unified_model.processor.EditProcessor`."""

    def prompt(self, instruction: str, references: int) -> str:
        """The prompt's text. Raises InputError for an instruction that cannot be used."""

    def __call__(self, instructions: Sequence[str], references: Sequence[Sequence[Image]]) -> Any:
        """Instructions and reference images as input tensors."""


@dataclass(frozen=True)
class Sample:
    """One decoded sample.

    Args:
        instruction: the edit in words.
        references: (R, R, 3) uint8 each.
        target: (R, R, 3) uint8.
        cells: (h, w) bool, True = edited.
    """

    instruction: str
    references: list[Image]
    target: Image
    cells: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BadSample:
    """A sample that cannot be used: its key, its shard, and why."""

    key: str
    shard: str
    reason: str
    sentence: str


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes, on the CPU.

    Args:
        positions, keys, shards: of each sample, B long.
        inputs: what the model's processor made of instructions and references.
        target: (B, 3, R, R) uint8.
        cells: (B, 1, h, w) bool, True = edited.
        weights: (B, 1, h, w) float32.
        usable: (B,) bool; False where a grey picture keeps the place of a bad sample.
        bad: the bad samples.
    """

    positions: list[int]
    keys: list[str]
    shards: list[str]
    inputs: Any
    target: torch.Tensor
    cells: torch.Tensor
    weights: torch.Tensor
    usable: torch.Tensor
    bad: list[BadSample]


class EditDataset(Dataset[tuple[int, Sample | BadSample]]):
    """Map-style dataset whose index is the position in the run."""

    def __init__(self, index: ShardIndex, config: TrainConfig, processor: Processor) -> None:
        self._index = index
        self._processor = processor
        self._resolution = config.data.resolution
        self._order = Order(config.seed, len(index))

    def __getitem__(self, position: int) -> tuple[int, Sample | BadSample]:
        """The sample number in the index, and the sample at `position` >= 0, or what is wrong with it."""
        number = self._order.sample_at(position)
        path = self._index.shard(number)
        try:
            encoded = read_sample(path, *self._index.span(number))
            self._check_instruction(encoded)
            return number, decode(encoded, self._resolution)
        except RowRejected as rejection:
            return number, BadSample(self._index.key(number), str(path), rejection.reason, rejection.sentence)

    def _check_instruction(self, encoded: EncodedSample) -> None:
        try:
            self._processor.prompt(encoded.instruction, len(encoded.references))
        except InputError as error:
            raise RowRejected("instruction_unusable", f"{error.field}: {error.rule}") from error


def decode(encoded: EncodedSample, resolution: int) -> Sample:
    """Decode a sample and bring reference, target and mask into one geometry.

    Raises:
        RowRejected: an image cannot be decoded; the mask has another size than the target; the crop cuts the whole
            edit away.
    """
    target = decode_image(encoded.target)
    mask = decode_mask(encoded.mask)
    if mask.shape != target.shape[:2]:
        raise RowRejected("mask_size", f"the mask is {mask.shape}, the target {target.shape[:2]} (height, width)")
    if encoded.mask_status == MaskStatus.GLOBAL:
        mask = np.ones_like(mask)
    crop = choose_crop(mask)
    cells = latent_cells(mask, crop, resolution)
    if encoded.mask_status == MaskStatus.OK and not cells.any():
        raise RowRejected("edit_outside_crop", "no edited pixel is left in the square crop")
    references = [apply_to_image(decode_image(data), crop, resolution) for data in encoded.references]
    return Sample(encoded.instruction, references, apply_to_image(target, crop, resolution), cells)


class Collate:
    """Makes a `MicroBatch` of samples; runs in the loader's processes."""

    def __init__(self, index: ShardIndex, config: TrainConfig, processor: Processor) -> None:
        self._index = index
        self._config = config
        self._processor = processor

    def __call__(self, positions: Sequence[int], rows: Sequence[tuple[int, Sample | BadSample]]) -> MicroBatch:
        """`rows` as `EditDataset` gave them for `positions`."""
        blank = _blank(self._config.data.resolution)
        samples = [blank if isinstance(row, BadSample) else row for _, row in rows]
        cells = [sample.cells for sample in samples]
        return MicroBatch(
            positions=list(positions),
            keys=[self._index.key(number) for number, _ in rows],
            shards=[str(self._index.shard(number)) for number, _ in rows],
            inputs=self._processor(
                [sample.instruction for sample in samples], [sample.references for sample in samples]
            ),
            target=torch.from_numpy(np.stack([sample.target for sample in samples])).permute(0, 3, 1, 2).contiguous(),
            cells=torch.from_numpy(np.stack(cells)).unsqueeze(1),
            weights=region_weights(cells, self._config.weighting),
            usable=torch.tensor([isinstance(row, Sample) for _, row in rows]),
            bad=[row for _, row in rows if isinstance(row, BadSample)],
        )


def open_index(config: TrainConfig, ranks: int) -> ShardIndex:
    """The samples of the run, once it is clear that they fill a global batch.

    Raises:
        ConfigError: too few samples.
        InputError, ShardError: as `trainer.data.shards.open_shards`.
    """
    index = open_shards(
        [Path(folder) for folder in config.data.shards], set(config.data.mask_statuses), config.data.subsets
    )
    needed = config.global_batch(ranks)
    if len(index) < needed:
        raise ConfigError(
            "batch_size x gradient_accumulation x ranks",
            needed,
            f"is more than the {len(index)} samples of the shards (left out: {index.left_out})",
            "Lower it, add shards, or accept more mask statuses or subsets.",
        )
    return index


def micro_batches(
    index: ShardIndex, config: TrainConfig, processor: Processor, first_step: int, rank: int, ranks: int
) -> Iterator[MicroBatch]:
    """This rank's micro-batches from `first_step` (counted from 0) to the end of the run, in order.

    Every rank gets the same number of them.
    """
    batches = _Batches(index, config, processor, first_step, rank, ranks)
    if not config.data.workers:
        yield from (batches[number] for number in range(len(batches)))
        return
    yield from DataLoader(
        batches,
        batch_size=None,
        num_workers=config.data.workers,
        # A fork of a process with threads (torch, CUDA) may hang; spawned processes start clean.
        multiprocessing_context=multiprocessing.get_context("spawn"),
        prefetch_factor=2,
    )


class _Batches(Dataset[MicroBatch]):
    """Micro-batch by number: the loader's workers each make whole micro-batches, and the loader keeps their order."""

    def __init__(
        self, index: ShardIndex, config: TrainConfig, processor: Processor, first_step: int, rank: int, ranks: int
    ) -> None:
        self._dataset = EditDataset(index, config, processor)
        self._collate = Collate(index, config, processor)
        self._config = config
        self._first_step = first_step
        self._rank = rank
        self._ranks = ranks

    def __len__(self) -> int:
        return (self._config.steps - self._first_step) * self._config.gradient_accumulation

    def __getitem__(self, number: int) -> MicroBatch:
        accumulation = self._config.gradient_accumulation
        step, micro = divmod(number, accumulation)
        positions = step_positions(
            self._first_step + step, self._config.batch_size, accumulation, self._rank, self._ranks
        )[micro]
        return self._collate(positions, [self._dataset[position] for position in positions])


def _blank(resolution: int) -> Sample:
    side = resolution // LATENT_STRIDE
    grey = np.full((resolution, resolution, 3), 127, dtype=np.uint8)
    return Sample("nothing", [grey], grey, np.ones((side, side), dtype=np.bool_))
