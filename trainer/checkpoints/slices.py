"""Tensors in flat slices: every rank writes the stretch it holds, and any number of ranks reads any stretch.

A file is a plain safetensors file of one-dimensional tensors; its metadata says which elements of the whole tensor each
one holds. So a checkpoint of eight ranks can be read by three: a stretch is put together from the files it lies in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from schemas.errors import InputError

_DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Torch's dtypes as safetensors names them, the widest first."""

_ALIGNMENT = 8


@dataclass(frozen=True)
class Slice:
    """The elements [start, start + len(values)) of a flattened tensor that has `total` of them.

    Args:
        values: one-dimensional, on any device; a view costs no memory.
    """

    start: int
    total: int
    values: torch.Tensor


def write_slices(path: Path, slices: Mapping[str, Slice], notes: Mapping[str, Any]) -> int:
    """Write a file, and sync it. One slice at a time is brought to the CPU, so that no second copy of all is held.

    Args:
        notes: JSON-able values, read again by `SliceReader.notes`.

    Returns:
        Its size in bytes.

    Raises:
        OSError: it cannot be written.
    """
    order = {dtype: place for place, dtype in enumerate(_DTYPES)}
    # Wide elements first, so that each tensor begins at a multiple of its element's size.
    chosen = sorted(
        ((name, one) for name, one in slices.items() if len(one.values)),
        key=lambda item: order[item[1].values.dtype],
    )
    places = {name: [one.start, one.total] for name, one in chosen}
    header: dict[str, Any] = {"__metadata__": {"slices": json.dumps(places), "notes": json.dumps(notes)}}
    offset = 0
    for name, one in chosen:
        size = one.values.numel() * one.values.element_size()
        header[name] = {
            "dtype": _DTYPES[one.values.dtype],
            "shape": [one.values.numel()],
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, one in chosen:
            stream.write(one.values.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        stream.flush()
        os.fsync(stream.fileno())
    return path.stat().st_size


class SliceReader:
    """Reads stretches of whole tensors from the files that hold their slices. A context manager."""

    def __init__(self, files: Sequence[Path]) -> None:
        """`files`: as `write_slices` wrote them, in rank order."""
        self._paths = list(files)
        self._stack = ExitStack()
        self._files: list[Any] = []
        self._pieces: dict[str, list[tuple[int, int, int]]] = {}
        self._totals: dict[str, int] = {}
        self.notes: list[dict[str, Any]] = []
        """The notes of each file."""

    def __enter__(self) -> SliceReader:
        """Raises InputError: a file is missing or broken."""
        for number, path in enumerate(self._paths):
            try:
                self._open(number, path)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
                self._stack.close()
                raise _broken(path, str(error)) from error
        for pieces in self._pieces.values():
            pieces.sort()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self, number: int, path: Path) -> None:
        file = self._stack.enter_context(safe_open(path, framework="pt"))
        self._files.append(file)
        metadata = file.metadata()
        self.notes.append(json.loads(metadata["notes"]))
        for name, (start, total) in json.loads(metadata["slices"]).items():
            length = file.get_slice(name).get_shape()[0]
            self._pieces.setdefault(name, []).append((start, start + length, number))
            self._totals[name] = total

    @property
    def totals(self) -> dict[str, int]:
        """Tensor -> its number of elements."""
        return self._totals

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a tensor."""
        stored = self._files[self._pieces[name][0][2]].get_slice(name).get_dtype()
        return next(dtype for dtype, called in _DTYPES.items() if called == stored)

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Fill `out`, one-dimensional, on any device and of any dtype, with the elements from `start` on.

        Raises:
            InputError: no file, or not every file that should, holds them.
        """
        stop, here = start + out.numel(), start
        for first, last, number in self._pieces.get(name, ()):
            low, high = max(first, here), min(last, stop)
            if low >= high:
                continue
            if low > here:
                break
            out[low - start : high - start].copy_(self._files[number].get_slice(name)[low - first : high - first])
            here = high
        if here < stop:
            raise _broken(self._paths[0].parent, f"elements {here} to {stop} of {name} are in no file")


def _broken(path: Path, reason: str) -> InputError:
    return InputError(
        "checkpoint", str(path), f"cannot be read ({reason})", "Delete this checkpoint to go on from the one before."
    )
