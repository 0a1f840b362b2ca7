"""Micro-batches from worker to rank: nothing is changed on the way, and nothing is written over too early."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from trainer.data.handover import Packer, Parcel, unpacked


@dataclass(frozen=True)
class Held:
    """Tensors inside other things, as a micro-batch has them."""

    names: list[str]
    tensors: dict[str, torch.Tensor]
    none: None = None


def some_tensors(seed: int) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (2, 40, 56, 3), dtype=torch.uint8, generator=drawn)
    return {
        "channels_last": pixels.permute(0, 3, 1, 2),
        "bool": torch.rand(3, 5, generator=drawn) > 0.5,
        "float": torch.randn(7, generator=drawn),
        "half": torch.randn(2, 3, generator=drawn).bfloat16(),
        "scalar": torch.tensor(seed),
        "empty": torch.empty(0, 3, 8, 8),
        "expanded": torch.zeros((), dtype=torch.uint8).expand(2, 3, 40, 56),
        "every_other": torch.arange(20)[::2],
    }


def sent(parcel: Parcel) -> Parcel:
    """As it comes out of a queue, but for the arena, which stays the same memory."""
    arrived: Parcel = pickle.loads(pickle.dumps(Parcel(**{**vars(parcel), "arena": None})))
    return Parcel(**{**vars(arrived), "arena": parcel.arena})


def alike(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(
        torch.equal(ours[name], theirs[name])
        and ours[name].dtype == theirs[name].dtype
        and (name == "every_other" or ours[name].stride() == theirs[name].stride())
        for name in theirs
    )


def test_what_arrives_is_what_was_packed_and_stays_so() -> None:
    counts = torch.zeros(1, dtype=torch.int64)
    packer = Packer(0, 2, counts)

    def parcels() -> Iterator[Parcel]:
        for number in range(7):
            yield sent(packer.pack(Held([str(number)], some_tensors(number))))

    arrived = list(unpacked(parcels(), counts))
    assert [held.names for held in arrived] == [[str(number)] for number in range(7)]
    assert all(alike(held.tensors, some_tensors(number)) for number, held in enumerate(arrived))


def test_arenas_are_used_again_once_they_are_unpacked() -> None:
    counts = torch.zeros(1, dtype=torch.int64)
    packer = Packer(0, 2, counts)
    fresh: list[bool] = []

    def parcels() -> Iterator[Parcel]:
        for number in range(6):
            parcel = packer.pack(some_tensors(number))
            fresh.append(parcel.arena is not None)
            yield parcel

    assert len(list(unpacked(parcels(), counts))) == 6
    assert fresh == [True, True, False, False, False, False]


@pytest.mark.parametrize("waiting", [2, 3, 5])
def test_what_waits_longer_than_there_are_arenas_is_not_written_over(waiting: int) -> None:
    counts = torch.zeros(2, dtype=torch.int64)
    packer = Packer(1, 2, counts)

    def parcels() -> Iterator[Parcel]:
        for first in range(0, 4 * waiting, waiting):
            yield from [packer.pack(some_tensors(number)) for number in range(first, first + waiting)]

    found = list(unpacked(parcels(), counts))
    assert counts.tolist() == [0, 4 * waiting]
    assert all(alike(held, some_tensors(number)) for number, held in enumerate(found))


@pytest.mark.parametrize("arenas", [1, 2])
def test_what_is_made_in_the_arena_arrives_also_where_the_rest_does_not_fit_behind_it(arenas: int) -> None:
    counts = torch.zeros(1, dtype=torch.int64)
    packer = Packer(0, arenas, counts)
    rests = [100, 100, 100, 3_000_000, 50, 2_000_000, 6_000_000]

    def parcels() -> Iterator[Parcel]:
        for number, rest in enumerate(rests):
            made = [packer.empty((300_000 + 7 * part,)) for part in range(2)]
            for part, one in enumerate(made):
                one[:] = 10 * number + part
            first = torch.full((rest,), number, dtype=torch.float32)
            yield packer.pack({"first": first, "made": [torch.from_numpy(one) for one in made], "last": first + 1})

    for number, (held, rest) in enumerate(zip(unpacked(parcels(), counts), rests, strict=True)):
        assert torch.equal(held["first"], torch.full((rest,), float(number)))
        assert torch.equal(held["last"], torch.full((rest,), number + 1.0))
        for part, one in enumerate(held["made"]):
            assert torch.equal(one, torch.full((300_000 + 7 * part,), 10 * number + part, dtype=torch.uint8))


def test_a_larger_batch_gets_a_larger_arena() -> None:
    counts = torch.zeros(1, dtype=torch.int64)
    packer = Packer(0, 1, counts)
    sizes = [10, 3_000_000, 20, 2_000_000, 5_000_000]
    sent_with: list[bool] = []

    def parcels() -> Iterator[Parcel]:
        for size in sizes:
            parcel = packer.pack(torch.full((size,), size % 251, dtype=torch.uint8))
            sent_with.append(parcel.arena is not None)
            yield parcel

    found = list(unpacked(parcels(), counts))
    assert [len(one) for one in found] == sizes
    assert all(bool((one == len(one) % 251).all()) for one in found)
    assert sent_with == [True, True, False, False, True]
