"""The held-out samples of a run: which are taken, and reading them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from schemas.errors import ConfigError, InputError, RowRejected
from trainer.config import TrainConfig
from trainer.config.validation import ValidationConfig
from trainer.data.batch import BadSample, Processor
from trainer.data.buckets import bucket_table, nearest_bucket
from trainer.data.decode import decode
from trainer.data.members import read_sample
from trainer.data.shards import ShardIndex, open_shards
from trainer.distributed import Ranks
from trainer.validation.bins import AREA_BINS, area_bin


@dataclass(frozen=True)
class HeldOutSample:
    """A held-out sample, decoded. Shape legend: H, W pixels; h = H / 8, w = W / 8 latent cells.

    Args:
        key: of the sample.
        area_bin: a key of `AREA_BINS`.
        edited_fraction: of the stored mask, in 0..1; 1 for an image with a caption.
        instruction: the edit in words.
        references: uint8 RGB images.
        target: (H, W, 3) uint8 RGB.
        cells: (h, w) bool, True = edited.
        inputs: what the model's processor made of instruction and references, one row, on the CPU.
    """

    key: str
    area_bin: str
    edited_fraction: float
    instruction: str
    references: list[npt.NDArray[np.uint8]]
    target: npt.NDArray[np.uint8]
    cells: npt.NDArray[np.bool_]
    inputs: Any

    @property
    def pixels(self) -> torch.Tensor:
        """The target as (1, 3, H, W) float32 in -1..1."""
        return torch.from_numpy(self.target).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1.0

    @property
    def cell_map(self) -> torch.Tensor:
        """The edit as (1, 1, h, w) bool."""
        return torch.from_numpy(self.cells)[None, None]


class HeldOut:
    """The held-out samples that a run is validated on, the same on every rank.

    Attributes:
        loss_samples: numbers in the index of the samples whose loss is taken.
        edit_samples: of those that are edited.
        bad: chosen samples that cannot be read, and are left out.
    """

    def __init__(
        self,
        index: ShardIndex,
        config: TrainConfig,
        validation: ValidationConfig,
        processor: Processor,
        ranks: Ranks,
    ) -> None:
        """Choose the samples and read each once, so that a broken one is known before training. A collective.

        Raises:
            InputError: the same on every rank: no sample can be read.
        """
        table = bucket_table(config.data.resolution, config.data.buckets)
        self._buckets = [table[place] for place in nearest_bucket(table, index.widths, index.heights).tolist()]
        self._processor = processor
        self._index = index
        keys = [self._index.key(number) for number in range(len(self._index))]
        self._bins = [area_bin(*self._index.area(number)) for number in range(len(self._index))]
        by_hash = sorted(range(len(keys)), key=lambda number: _digest(keys[number]))
        loss = by_hash[: validation.samples]
        edit = spread(by_hash, self._bins, validation.edits)
        bad = self._unreadable(sorted({*loss, *edit}), ranks)
        self.bad = list(bad.values())
        self.loss_samples = [number for number in loss if number not in bad]
        self.edit_samples = [number for number in edit if number not in bad]
        if bad and not (self.loss_samples or self.edit_samples):
            first = self.bad[0]
            raise InputError(
                "validation.shards", first.key, f"no held-out sample can be read: {first.sentence}", "Pack again."
            )

    def __len__(self) -> int:
        return len(self._index)

    def keys(self) -> set[str]:
        """The keys of all samples that are taken."""
        return {self._index.key(number) for number in (*self.loss_samples, *self.edit_samples)}

    def counts(self) -> dict[str, int]:
        """Bin of the edited area -> samples whose loss is taken; bins without a sample are left out."""
        bins = [self._bins[number] for number in self.loss_samples]
        return {name: bins.count(name) for name in AREA_BINS if name in bins}

    def read(self, number: int) -> HeldOutSample:
        """A sample by its number in the index.

        Raises:
            InputError: it cannot be read.
        """
        sample = self._read(number)
        if isinstance(sample, BadSample):
            raise InputError("held-out sample", sample.key, f"cannot be read: {sample.sentence}", "Look at its shard.")
        return sample

    def read_with_other_instruction(self, number: int) -> HeldOutSample:
        """As `read`, with the instruction of another sample: of the first after it among those whose loss is taken, the
        last being followed by the first, whose instruction is not its own. Where all are the same, its own.

        Raises:
            InputError: a sample cannot be read.
        """
        sample = self.read(number)
        place = self.loss_samples.index(number)
        for other in (*self.loss_samples[place + 1 :], *self.loss_samples[:place]):
            text = read_sample(self._index.shard(other), *self._index.span(other)).instruction
            if text != sample.instruction:
                return replace(sample, instruction=text, inputs=self._processor([text], [sample.references]))
        return sample

    def _read(self, number: int) -> HeldOutSample | BadSample:
        key, path = self._index.key(number), self._index.shard(number)
        try:
            encoded = read_sample(path, *self._index.span(number))
            sample = decode(encoded, self._buckets[number])
            inputs = self._processor([sample.instruction], [sample.references])
        except RowRejected as rejection:
            return BadSample(key, str(path), rejection.reason, rejection.sentence)
        except InputError as error:
            return BadSample(key, str(path), "instruction_unusable", f"{error.field}: {error.rule}")
        fraction = self._index.area(number)[0]
        return HeldOutSample(
            key=key,
            area_bin=self._bins[number],
            edited_fraction=1.0 if math.isnan(fraction) else fraction,
            instruction=encoded.instruction,
            references=list(sample.references),
            target=sample.target,
            cells=sample.cells,
            inputs=inputs,
        )

    def _unreadable(self, numbers: Sequence[int], ranks: Ranks) -> dict[int, BadSample]:
        """Each rank looks at its share. A collective."""
        own = {number: self._read(number) for number in numbers[ranks.rank :: ranks.world]}
        bad = {number: sample for number, sample in own.items() if isinstance(sample, BadSample)}
        return {number: sample for part in ranks.gather(bad) for number, sample in sorted(part.items())}


def spread(numbers: Sequence[int], bins: Sequence[str], count: int) -> list[int]:
    """Up to `count` of `numbers`, taken from the bins in turn, each bin in the order of `numbers`.

    Args:
        bins: bin of every sample, by number.
    """
    queues = [[number for number in numbers if bins[number] == name] for name in AREA_BINS]
    turns = [(place, position, number) for position, queue in enumerate(queues) for place, number in enumerate(queue)]
    return [number for _, _, number in sorted(turns)[:count]]


def shares(numbers: Sequence[int], rank: int, world: int) -> Iterator[tuple[int, bool]]:
    """What a rank works on: every `world`-th number, and whether it counts.

    Every rank gets equally many, since under ZeRO-3 a forward pass is a collective; the late ones do the last number
    once more, which does not count.
    """
    for start in range(0, len(numbers), world):
        place = start + rank
        yield numbers[min(place, len(numbers) - 1)], place < len(numbers)


def open_held_out(validation: ValidationConfig) -> ShardIndex:
    """The samples to choose from.

    Raises:
        ConfigError: there is none.
        InputError, ShardError: as `trainer.data.shards.open_shards`.
    """
    folders = [Path(folder) for folder in validation.shards]
    index = open_shards(folders, set(validation.mask_statuses), validation.subsets)
    if not len(index):
        raise ConfigError(
            "validation.shards",
            validation.shards,
            f"hold no sample to take (left out: {index.left_out})",
            "Accept more mask statuses, or name another subset.",
        )
    return index


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
