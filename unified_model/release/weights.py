"""Weights in a folder or a file, whose names and shapes are known before any is read."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from schemas.errors import InputError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True)
class StoredWeights:
    """Weights on disk.

    Args:
        place: the folder or file, for errors.
        shapes: of each weight.
        files: the file of each weight.
    """

    place: Path
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, Path]

    def elements(self, keys: Iterable[str]) -> int:
        """Elements of some of the weights together."""
        return sum(math.prod(self.shapes[key]) for key in keys)

    def read(self, keys: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Some of the weights, file by file, each read when its turn comes."""
        wanted: dict[Path, list[str]] = {}
        for key in keys:
            wanted.setdefault(self.files[key], []).append(key)
        for path, names in sorted(wanted.items()):
            if path.suffix != ".safetensors":
                stored = _pickled(path)
                yield from ((name, stored[name]) for name in names)
                continue
            with safe_open(path, framework="pt") as stream:
                for name in names:
                    yield name, stream.get_tensor(name)


def open_weights(place: Path) -> StoredWeights:
    """The weights of a folder (an index `*.safetensors.index.json` with its shards, or one file), or of one file
    (`.safetensors`, or `.bin` and the like as `torch.save` writes, which is read without running code).

    Raises:
        InputError: there are none, a shard is missing or damaged, or the index and the shards disagree.
    """
    if place.is_dir():
        indices = [place / INDEX] if (place / INDEX).is_file() else sorted(place.glob("*.safetensors.index.json"))
        if len(indices) == 1:
            return _sharded(place, indices[0])
        files = [place / SINGLE] if (place / SINGLE).is_file() else sorted(place.glob("*.safetensors"))
        if len(files) != 1:
            raise InputError(
                "weights", str(place), f"holds no {INDEX} and no {SINGLE}", "Download every file of the checkpoint."
            )
        place = files[0]
    if not place.is_file():
        raise InputError("weights", str(place), "does not exist", "Check the path.")
    shapes = _shapes(place)
    return StoredWeights(place, shapes, dict.fromkeys(shapes, place))


def _sharded(folder: Path, index: Path) -> StoredWeights:
    try:
        listed: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(str(index), str(error), "must map weights to files", "Download it again.") from error
    found: dict[str, tuple[int, ...]] = {}
    for name in sorted(set(listed.values())):
        held = _shapes(folder / name)
        promised = {key for key, file in listed.items() if file == name}
        absent = sorted(promised - held.keys())
        if absent:
            raise InputError(str(folder / name), absent[0], "is in the index, not in the file", "Download it again.")
        found |= {key: shape for key, shape in held.items() if key in promised}
    return StoredWeights(folder, found, {key: folder / file for key, file in listed.items()})


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix != ".safetensors":
        return {name: tuple(value.shape) for name, value in _pickled(path).items()}
    try:
        with safe_open(path, framework="pt") as stream:
            return {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError("weights", str(path), "does not exist", "Download every file of the checkpoint.") from error
    except (SafetensorError, OSError) as error:
        raise InputError("weights", str(path), f"is damaged ({error})", "Download it again.") from error


def _pickled(path: Path) -> dict[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError("weights", str(path), f"cannot be read as weights ({error})", "Check the file.") from error
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise InputError("weights", str(path), "must map names to tensors", "Give a file of weights.")
    return stored
