"""From step to micro-batches. The loader's workers are told where the samples lie, and hold nothing of the index."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from trainer.cache.open import TrainingCache
from trainer.config import TrainConfig
from trainer.data.batch import BatchMaker, MicroBatch, Place, Processor
from trainer.data.buckets import Bucket
from trainer.data.order import step_positions
from trainer.data.training_data import TrainingData
from trainer.signals import SIGNALS

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt (malloc.h)."""
_KEPT = 1 << 30
"""Bytes of free memory that a worker may keep."""
_FILES = 10_240
"""Files that may be open where the system sets no bound: macOS allows no more."""
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
    maker = _Maker(BatchMaker(config, processor, with_references))
    if not config.data.workers:
        yield from (maker[order] for order in orders)
        return
    _raise_file_limit()
    loader = DataLoader(
        maker,
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
        batches = iter(loader)
    yield from batches


class _Maker(Dataset[MicroBatch]):
    """A data set whose index says itself what to make: the loader's workers each make whole micro-batches, and the
    loader keeps their order."""

    def __init__(self, maker: BatchMaker) -> None:
        self._maker = maker

    def __getitem__(self, order: _Order) -> MicroBatch:
        return self._maker(order.places, order.bucket)


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


def _raise_file_limit() -> None:
    """Each tensor that a worker hands over keeps a file open for as long as it lives, a dozen a micro-batch. The steps
    at work and to come may hold more than the thousand that many systems let a process begin with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
    # The C library hands large blocks back as soon as they are free, and the system clears each page anew: a tenth of
    # the time that small pictures take. Other C libraries have no such call.
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _KEPT)
        set_option(_M_TRIM_THRESHOLD, _KEPT)
