"""From step to micro-batches. The loader's workers are told where the samples lie, and hold nothing of the index."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import resource_tracker
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from trainer.cache.open import TrainingCache
from trainer.config import TrainConfig
from trainer.data.batch import BatchMaker, MicroBatch, Place, Processor
from trainer.data.buckets import Bucket
from trainer.data.handover import Packer, Parcel, unpacked
from trainer.data.order import step_positions
from trainer.data.training_data import TrainingData
from trainer.signals import SIGNALS

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt (malloc.h)."""
_KEPT = 1 << 28
"""Bytes of free memory that a process may keep."""
PREFETCH = 4
"""Micro-batches that each worker prepares ahead."""


@dataclass(frozen=True)
class _Order:
    """What a worker is asked for."""

    places: list[Place]
    bucket: Bucket


def micro_batches(
    data: TrainingData,
    config: TrainConfig,
    processor: Processor | None,
    first_step: int,
    rank: int,
    ranks: int,
    with_references: bool = False,
    cache: TrainingCache | None = None,
) -> Iterator[MicroBatch]:
    """This rank's micro-batches from `first_step` (counted from 0) to the end of the run, in order.

    Every rank gets the same number of them.

    Args:
        processor, with_references: as for `trainer.data.batch.BatchMaker`.
        cache: what of the samples is cached.
    """
    orders = _orders(data, config, first_step, rank, ranks, cache)
    maker = BatchMaker(config, processor, with_references)
    if not config.data.workers:
        yield from (maker(order.places, order.bucket) for order in orders)
        return
    _keep_freed_memory()
    counts = torch.zeros(config.data.workers, dtype=torch.int64).share_memory_()
    loader = DataLoader(
        _Maker(maker, counts),
        batch_size=None,
        sampler=orders,
        num_workers=config.data.workers,
        # A fork of a process with threads (torch, CUDA) may hang; spawned processes start clean.
        multiprocessing_context=multiprocessing.get_context("spawn"),
        prefetch_factor=PREFETCH,
        worker_init_fn=_prepare_worker,
    )
    with _requests_held():
        resource_tracker.ensure_running()
    # Again: that let SIGTERM through.
    with _requests_held():
        parcels = iter(loader)
    # A run that breaks off with a traceback keeps this iterator to its end. What multiprocessing then sends to the
    # workers would be the first request to stop, which they pass over, and it would wait for them for ever.
    atexit.register(_shut_down, weakref.ref(parcels))
    yield from unpacked(parcels, counts)


def _shut_down(parcels: weakref.ref[Any]) -> None:
    """As when the iterator is deleted; nothing where it has been."""
    found = parcels()
    if found is not None:
        found._shutdown_workers()


class _Maker(Dataset[Parcel]):
    """A data set whose index says itself what to make: the loader's workers each make whole micro-batches, and the
    loader keeps their order."""

    def __init__(self, maker: BatchMaker, counts: torch.Tensor) -> None:
        self._maker, self._counts = maker, counts

    @cached_property
    def _packer(self) -> Packer:
        worker = get_worker_info()
        # One more than wait is copied out while the next is made.
        return Packer(worker.id if worker else 0, PREFETCH + 2, self._counts)

    def __getitem__(self, order: _Order) -> Parcel:
        return self._packer.pack(self._maker(order.places, order.bucket, self._packer.empty))


def _orders(
    data: TrainingData, config: TrainConfig, first_step: int, rank: int, ranks: int, cache: TrainingCache | None
) -> Iterator[_Order]:
    index = data.index
    for step in range(first_step, config.steps):
        for positions in step_positions(step, config.batch_size, config.gradient_accumulation, rank, ranks):
            samples = data.order.samples_at(positions).tolist()
            bucket = data.buckets[data.order.bucket_at(positions[0])]
            places = [
                Place(
                    position,
                    index.key(one),
                    index.shard(one),
                    *index.span(one),
                    int(index.datasets[one]),
                    None if cache is None else cache.at(one, bucket),
                )
                for position, one in zip(positions, samples, strict=True)
            ]
            yield _Order(places, bucket)


@contextmanager
def _requests_held() -> Iterator[None]:
    """Inside, requests to stop wait; in processes that are started inside, they wait until those let them through.

    torchrun and Slurm signal all processes of a rank, which still needs its batches to come to an end of its own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker(worker: int) -> None:
    del worker
    # The first SIGTERM is passed over. What the loader sends by itself to end a worker, it sends again.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    # A thread may still be handing over a batch that nobody waits for any more; an interpreter that winds down under it
    # aborts. All else is done by then.
    atexit.register(os._exit, 0)
    # Workers are as many as cores: threads of their own would only take turns with each other.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """The C library hands large blocks back as soon as they are free, and the system clears each page anew when it is
    touched: on a virtual machine that takes as long as decoding. Other C libraries have no such call."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _KEPT)
        set_option(_M_TRIM_THRESHOLD, _KEPT)
