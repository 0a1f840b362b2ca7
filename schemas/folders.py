"""Folders that somebody names for output: checked before work starts, so that no work is lost and no file destroyed."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.atomic import PARTIAL_SUFFIX, writing
from schemas.errors import InputError

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What `flock` says on a file system that knows no locks."""


def check_can_be_folder(path: Path, field: str) -> None:
    """Check that `path` is a folder or can become one; changes nothing.

    Args:
        field: what to call it in the error.

    Raises:
        InputError: it or one of its parents is a file.
    """
    standing = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not standing.is_dir():
        rule = "is a file" if standing == path else f"cannot be made, since {standing} is a file"
        raise InputError(field, str(path), rule, "Name a folder.")


def check_holds_only(path: Path, field: str, names: Collection[str], writer: str) -> None:
    """Check that `path` holds nothing but `names` and files that a killed writer left half done; changes nothing.

    Args:
        path: a folder, or free.
        writer: whose names they are, for the error: "no run".

    Raises:
        InputError: something else stands there.
    """
    if not path.exists():
        return
    found = sorted(one.name for one in path.iterdir())
    foreign = [name for name in found if name not in names and not name.endswith(PARTIAL_SUFFIX)]
    if foreign:
        raise InputError(
            field, str(path), f"holds files that {writer} wrote ({foreign[0]})", "Name a new or empty folder."
        )


@contextmanager
def locked(folder: Path, lock: str, field: str, worker: str) -> Iterator[None]:
    """Hold `folder` for this process; the lock ends with the process, however that ends.

    On a file system that knows no locks (some mounts of Lustre and NFS) nobody is kept out.

    Args:
        folder: made where it is missing.
        lock: name of the file in it that is held.
        field: what to call the folder in errors.
        worker: who else may hold it, for the error: "another run".

    Raises:
        InputError: somebody else holds it.
        OutputError: it cannot be written.
    """
    path = folder / lock
    with writing(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(field, str(folder), f"{worker} works in this folder", "Wait for it, or end it.") from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
