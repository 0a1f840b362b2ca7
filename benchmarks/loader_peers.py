"""The same samples through plain `webdataset` and MosaicML Streaming, the obvious way. Imports nothing of editmill, so
that Streaming can run in an environment of its own: `python loader_peers.py JSON` prints its figures."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

NAMES = ("reference", "target", "cells", "weights")
# One thread a process: loaders are given as many processes as there are cores.
cv2.setNumThreads(0)


@dataclass(frozen=True)
class Turn:
    """What one turn of a way came to."""

    samples_per_second: float
    cpu_ms: float
    """Milliseconds of processor time a sample, of all processes."""


def processes_cpu() -> float:
    """Seconds of processor time that this process and its children have taken so far."""
    total = 0.0
    for number in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def timed(stream: Iterable[Any], batches: int, batch: int) -> Turn:
    """Time `batches` micro-batches, once as many have come as may have been prepared meanwhile."""
    warm = 16
    iterator = iter(stream)
    for _ in range(warm):
        next(iterator)
    began, cpu = time.perf_counter(), processes_cpu()
    for _ in range(batches):
        next(iterator)
    seconds, cpu = time.perf_counter() - began, processes_cpu() - cpu
    return Turn(batches * batch / seconds, 1e3 * cpu / (batches * batch))


def prepare(sample: dict[str, bytes], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Reference, target, cells and weights of a sample, at (width, height)."""
    images = {}
    for name in ("reference", "target"):
        pixels = np.asarray(Image.open(io.BytesIO(sample[name])).convert("RGB"))
        if pixels.shape[1::-1] != tuple(size):
            pixels = cv2.resize(pixels, tuple(size), interpolation=cv2.INTER_AREA)
        images[name] = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    mask = np.asarray(Image.open(io.BytesIO(sample["mask"])).convert("L"))
    if mask.shape[1::-1] != tuple(size):
        mask = cv2.resize(mask, tuple(size), interpolation=cv2.INTER_AREA)
    width, height = size
    cells = (mask > 0).reshape(height // 8, 8, width // 8, 8).any(axis=(1, 3))
    weights = np.ones(cells.shape, np.float32)
    weights[cells] = np.log2(cells.size / max(1, cells.sum())) + 1.0
    return {**images, "cells": cells[None], "weights": weights[None]}


def stacked(samples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """A micro-batch."""
    return {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in NAMES}


class FromTar:
    """Prepares a sample of `webdataset`."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, sample: dict[str, Any]) -> dict[str, np.ndarray]:
        return prepare({name.partition(".")[0]: data for name, data in sample.items()}, self.size)


def webdataset_batches(tars: list[str], size: tuple[int, int], workers: int, batch: int) -> Iterator[Any]:
    """Without end, shuffled in a buffer."""
    import webdataset

    data = webdataset.WebDataset(tars, resampled=True, shardshuffle=False, seed=0).shuffle(64).map(FromTar(size))
    data = data.batched(batch, collation_fn=stacked)
    loader = webdataset.WebLoader(data, batch_size=None, num_workers=workers, prefetch_factor=4)
    return iter(loader)


def _import_streaming() -> Any:
    """Streaming imports torchvision for classes of its own that are not used here; a torchvision built for CUDA does
    not load beside a torch built for the CPU, and is then stood in for."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
        for name in names:
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__spec__ = ModuleSpec(name, None)
        sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
        sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]
    import streaming

    return streaming


def write_mds(packed: Path, out: Path) -> None:
    """The tars of a packed folder as Streaming's shards; the images' bytes are the same."""
    columns = {"reference": "bytes", "target": "bytes", "mask": "bytes", "json": "bytes"}
    with _import_streaming().MDSWriter(out=str(out), columns=columns, size_limit=1 << 26) as writer:
        for path in sorted((packed / "webdataset").glob("*.tar")):
            samples: dict[str, dict[str, bytes]] = {}
            with tarfile.open(path) as archive:
                for member in archive:
                    key, _, rest = member.name.partition(".")
                    content = archive.extractfile(member)
                    if content is not None:
                        samples.setdefault(key, {})[rest.partition(".")[0]] = content.read()
            for sample in samples.values():
                writer.write(sample)


def time_streaming(values: dict[str, Any]) -> Turn:
    """One turn of Streaming."""
    from torch.utils.data import DataLoader

    streaming = _import_streaming()
    from streaming.base.util import clean_stale_shared_memory

    class Samples(streaming.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            return prepare(super().__getitem__(index), tuple(values["size"]))

    clean_stale_shared_memory()
    data = Samples(local=values["folder"], shuffle=True, shuffle_seed=0, batch_size=values["batch"])
    loader = DataLoader(
        data, values["batch"], num_workers=values["workers"], prefetch_factor=4, collate_fn=stacked,
        persistent_workers=True, drop_last=True,
    )  # fmt: skip

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    with closing(endless()) as stream:
        return timed(stream, values["batches"], values["batch"])


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write_mds(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        turn = time_streaming(json.loads(sys.argv[1]))
        print(json.dumps([turn.samples_per_second, turn.cpu_ms]))
        sys.stdout.flush()
        # Its workers' shared memory is let go of by the next turn.
        os._exit(0)
