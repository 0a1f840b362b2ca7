"""Micro-batches from a loader's worker to its rank, through shared memory that is used again.

Shared memory that is new for every tensor costs more than the decoding of a JPEG: the system clears each of its pages
when it is first touched, and keeps a file open for each tensor for as long as that lives. Here a worker writes all
tensors of a micro-batch side by side into one of a few arenas, which the rank keeps mapped; the rank copies them out,
and says so.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_ALIGNED = 64
"""Each tensor begins at a multiple of so many bytes."""
_ROUNDED = 1 << 20
"""An arena's size is a multiple of so many bytes, so that batches of nearly one size share it."""


@dataclass(frozen=True)
class Parcel:
    """A micro-batch, or whatever else holds tensors, on its way.

    Args:
        worker: which has packed it, counted from 0.
        number: of the parcel among the worker's own, from 0.
        slot: of the arena that holds its tensors.
        arena: (bytes,) uint8 in shared memory, the first time that it is used; None ever after.
        rest: pickled, with the tensors' positions in `tensors` in place of them.
        tensors: where each lies.
    """

    worker: int
    number: int
    slot: int
    arena: torch.Tensor | None
    rest: bytes
    tensors: tuple[_Placed, ...]


@dataclass(frozen=True)
class _Placed:
    """Where a tensor lies in an arena: its bytes [start, stop), and how they are read."""

    start: int
    stop: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Packer:
    """A worker's side. Of its parcels, the latest `arenas` may be on their way at a time without new shared memory;
    where the rank keeps more waiting, new arenas take the place of those.

    Args:
        worker: this one, counted from 0.
        arenas: how many are used in turn.
        unpacked: (workers,) int64 in shared memory, how many parcels of each worker the rank has unpacked.
    """

    def __init__(self, worker: int, arenas: int, unpacked: torch.Tensor) -> None:
        self._worker, self._unpacked = worker, unpacked
        self._arenas = [torch.empty(0, dtype=torch.uint8) for _ in range(arenas)]
        self._number = self._filled = 0

    def empty(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """A C-contiguous uint8 array of any contents for the next parcel; in its arena where there is room, so that it
        need not be copied."""
        start = _aligned(self._filled)
        size = math.prod(shape)
        if not self._is_free() or start + size > self._arena.numel():
            return np.empty(shape, dtype=np.uint8)
        self._filled = start + size
        return self._arena[start : self._filled].numpy().reshape(shape)

    def pack(self, value: Any) -> Parcel:
        """`value` with its tensors in an arena; they are copied where they do not lie there already."""
        stream = io.BytesIO()
        pickler = _Pickler(stream)
        pickler.dump(value)
        places = self._places(pickler.tensors, in_place=True)
        is_new = not self._is_free() or _end(places) > self._arena.numel()
        if is_new:
            places = self._places(pickler.tensors, in_place=False)
            size = -(-max(1, _end(places)) // _ROUNDED) * _ROUNDED
            arena = torch.empty(size, dtype=torch.uint8).share_memory_()
        else:
            arena = self._arena
        for tensor, place in zip(pickler.tensors, places, strict=True):
            if is_new or self._offset(tensor) is None:
                _seen(arena[place.start : place.stop], place).copy_(tensor)
        self._arenas[self._slot] = arena
        parcel = Parcel(
            self._worker, self._number, self._slot, arena if is_new else None, stream.getvalue(), tuple(places)
        )
        self._number += 1
        self._filled = 0
        return parcel

    @property
    def _slot(self) -> int:
        return self._number % len(self._arenas)

    @property
    def _arena(self) -> torch.Tensor:
        return self._arenas[self._slot]

    def _is_free(self) -> bool:
        return int(self._unpacked[self._worker]) > self._number - len(self._arenas)

    def _offset(self, tensor: torch.Tensor) -> int | None:
        """Where in the arena a tensor lies that `empty` gave."""
        offset = tensor.data_ptr() - self._arena.data_ptr()
        return offset if 0 <= offset < self._filled else None

    def _places(self, tensors: Iterable[torch.Tensor], in_place: bool) -> list[_Placed]:
        """Where the tensors are to lie: those that `empty` gave where they are, where `in_place`, and others behind."""
        places, end = [], self._filled if in_place else 0
        for tensor in tensors:
            offset = self._offset(tensor) if in_place else None
            places.append(_placed(tensor, _aligned(end) if offset is None else offset))
            end = max(end, places[-1].stop)
        return places


def unpacked(parcels: Iterable[Parcel], counts: torch.Tensor) -> Iterator[Any]:
    """The rank's side: what was packed, in the order of the parcels, each in memory of its own.

    Args:
        counts: (workers,) int64 in shared memory, that the packers look at.
    """
    arenas: dict[tuple[int, int], torch.Tensor] = {}
    for parcel in parcels:
        name = parcel.worker, parcel.slot
        arena = arenas[name] = arenas[name] if parcel.arena is None else parcel.arena
        tensors = [_seen(_copied(arena[place.start : place.stop]), place) for place in parcel.tensors]
        value = _Unpickler(io.BytesIO(parcel.rest), tensors).load()
        counts[parcel.worker] = parcel.number + 1
        yield value


class _Pickler(pickle.Pickler):
    """Puts tensors aside. Those that hold less than their shape says, as expanded ones, are pickled as they are."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[torch.Tensor] = []

    def persistent_id(self, value: Any) -> int | None:
        if type(value) is not torch.Tensor or not _is_dense(value):
            return None
        self.tensors.append(value)
        return len(self.tensors) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, tensors: list[torch.Tensor]) -> None:
        super().__init__(stream)
        self._tensors = tensors

    def persistent_load(self, place: int) -> torch.Tensor:
        return self._tensors[place]


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether it holds as many elements as its shape says, side by side, in any order of the axes."""
    strides = tensor.stride()
    return tensor.permute(sorted(range(tensor.dim()), key=lambda axis: -strides[axis])).is_contiguous()


def _placed(tensor: torch.Tensor, start: int) -> _Placed:
    stop = start + tensor.numel() * tensor.element_size()
    return _Placed(start, stop, tensor.dtype, tuple(tensor.shape), tensor.stride())


def _end(places: Iterable[_Placed]) -> int:
    return max((place.stop for place in places), default=0)


def _aligned(position: int) -> int:
    return -(-position // _ALIGNED) * _ALIGNED


def _copied(data: torch.Tensor) -> torch.Tensor:
    copy = torch.empty_like(data)
    # NumPy copies with one thread: torch's others would take turns with the loader's workers.
    copy.numpy()[:] = data.numpy()
    return copy


def _seen(data: torch.Tensor, place: _Placed) -> torch.Tensor:
    """The bytes of a tensor as that tensor."""
    return data.view(place.dtype).as_strided(place.shape, place.strides)
