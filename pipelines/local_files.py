"""Image files on a local disk: where a name may lead, and what is read of it."""

from __future__ import annotations

import os
from pathlib import Path

from schemas.errors import RowRejected

DEFAULT_MAX_BYTES = 256 * 2**20
"""Files larger than this are rejected unread unless a config says otherwise."""


def resolve_below(root: Path, name: str, allow_outside: bool) -> tuple[Path, str]:
    """The file that `name` means, relative to `root`, and the name to remember it by.

    The check is made on the names alone: a symbolic link inside `root` may lead anywhere, since whoever owns the folder
    placed it.

    Args:
        name: as it stands in the data; absolute, or relative to `root`.
        allow_outside: whether it may lead out of `root`.

    Returns:
        The path, and `name` made relative to `root`, with forward slashes; for a file outside only its own name, so
        that what is remembered does not depend on where the data lies.

    Raises:
        RowRejected: `image_outside`.
    """
    base = os.path.abspath(root)
    path = os.path.normpath(os.path.join(base, name))
    if path == base or path.startswith(base.rstrip(os.sep) + os.sep):
        return Path(path), Path(os.path.relpath(path, base)).as_posix()
    if not allow_outside:
        raise RowRejected("image_outside", f"'{name}' leads out of the folder of the data")
    return Path(path), os.path.basename(path)


def read_image(path: Path, name: str, max_bytes: int) -> bytes:
    """The bytes of a file, as they are.

    Args:
        name: what to call the file in a rejection.
        max_bytes: the largest size, inclusive; a larger file is not read.

    Raises:
        RowRejected: `image_not_found`, `image_empty`, `image_too_many_bytes`, `image_unreadable`.
    """
    try:
        if not path.is_file():
            raise RowRejected("image_not_found", f"'{name}' is not there, or is no file")
        size = path.stat().st_size
        if size == 0:
            raise RowRejected("image_empty", f"'{name}' has no bytes")
        if size > max_bytes:
            raise RowRejected("image_too_many_bytes", f"'{name}' has {size} bytes; at most {max_bytes} are allowed")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        # ValueError: a name with a NUL character.
        raise RowRejected("image_unreadable", f"'{name}' cannot be read ({error})") from error
