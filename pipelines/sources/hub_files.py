"""Which Parquet files of a data set, as the Hugging Face hub lays one out, belong to a split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pipelines.parquet_files import ParquetFile, find_files
from schemas.errors import InputError

# SPLIT-00000-of-00051.parquet, or with a hash behind: what `push_to_hub` writes. The hub's own conversion of a data set
# to Parquet (branch refs/convert/parquet) has SPLIT/0000.parquet instead.
_PUSHED = re.compile(r"(?P<split>.+?)-\d+-of-\d+(-[0-9a-f]+)?\.parquet")
_CONVERTED = re.compile(r"\d{4}\.parquet")


def split_of(path: str) -> str | None:
    """The split that a file's name tells, or None."""
    folder, _, name = path.rpartition("/")
    if (pushed := _PUSHED.fullmatch(name)) is not None:
        return pushed["split"]
    return folder.rpartition("/")[2] or None if _CONVERTED.fullmatch(name) else None


def files_of_split(paths: Sequence[str], split: str | None) -> list[ParquetFile]:
    """The files that `paths` mean, without those of other splits; a file whose name tells no split is taken.

    Args:
        paths: files, folders or globs.
        split: a name or a pattern with `*`; None takes every file.

    Raises:
        InputError: a path means no file, or no file is of the split.
    """
    found = find_files(paths)
    if split is None:
        return found
    splits = [split_of(file.path) for file in found]
    chosen = [file for file, name in zip(found, splits, strict=True) if name is None or fnmatchcase(name, split)]
    if not chosen:
        there = ", ".join(sorted({name for name in splits if name is not None}))
        raise InputError("split", split, f"is in no file; splits there are: {there}", "Choose one of them.")
    return chosen
