"""Which state of a model lies in a folder, without reading gigabytes of weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from schemas.errors import InputError

_SMALL = 32 * 2**20
"""A file of at most so many bytes counts whole; a larger one by its size and its first and last mebibyte."""
_ENDS = 2**20


def model_revision(model: str, revision: str) -> str:
    """`revision` where one is given; for a folder a hash of its files; else empty (a hub's default branch).

    A folder's hash covers the names and sizes of its files, small files whole, and of large ones the first and the last
    mebibyte: weights in safetensors begin with their table of tensors, and fine-tuning changes every tensor.

    Raises:
        InputError: a file cannot be read.
    """
    folder = Path(model)
    if revision or not folder.is_dir():
        return revision
    digest = hashlib.sha256()
    try:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as stream:
                if size <= _SMALL:
                    digest.update(stream.read())
                else:
                    digest.update(stream.read(_ENDS))
                    stream.seek(-_ENDS, 2)
                    digest.update(stream.read(_ENDS))
    except OSError as error:
        raise InputError("backend.model", model, f"cannot be read ({error.strerror})", "Check the folder.") from error
    return digest.hexdigest()[:16]
