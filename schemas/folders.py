"""Folders that somebody names for output: checked before work starts, so that no work is lost and no file destroyed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from schemas.atomic import PARTIAL_SUFFIX
from schemas.errors import InputError


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
