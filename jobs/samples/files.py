"""Samples that are plain image files: pairs found by their names, or one pair that is named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.samples.base import Row, Samples, Unreadable
from pipelines.local_files import DEFAULT_MAX_BYTES, read_image
from pipelines.preview.named_pairs import EXTENSIONS, pair_names
from schemas.errors import InputError, RowRejected
from schemas.keys import pair_key

_HABITS = "NAME_src.EXT and NAME_tgt.EXT, NAME.reference.EXT and NAME.target.EXT, or the folders before/ and after/"


class FileSamples(Samples):
    """Pairs of image files.

    Args:
        name: heading.
        pairs: (name, references, target) of each.
        told: files that are in no pair.
    """

    def __init__(
        self, name: str, pairs: Sequence[tuple[str, Sequence[Path], Path]], told: Sequence[Unreadable] = ()
    ) -> None:
        self.name = name
        self.told = tuple(told)
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def rows(self, positions: Sequence[int]) -> Iterator[Row | Unreadable]:
        """A pair at a time, as an `EditPair` row; without an instruction, since files have none."""
        for position in positions:
            name, references, target = self._pairs[position]
            try:
                before = [_image(path) for path in references]
                after = _image(target)
            except RowRejected as rejection:
                yield Unreadable(name, rejection.sentence)
                continue
            key = pair_key([image["bytes"] for image in before], after["bytes"], "")
            yield {"key": key, "references": before, "target": after, "instruction": ""}


def one_pair(references: Sequence[Path], target: Path) -> FileSamples:
    """The pair that somebody names.

    Raises:
        InputError: a file does not exist.
    """
    for option, path in (*(("--reference", path) for path in references), ("--target", target)):
        if not path.is_file():
            raise InputError(option, str(path), "is no file", "Name an image file.")
    return FileSamples(target.name, [(target.name, references, target)])


def named_pairs(folder: Path) -> FileSamples:
    """The pairs in a folder of images, found by their names (`pipelines.preview.named_pairs`).

    Raises:
        InputError: there is none.
    """
    found = [
        Path(root, name).relative_to(folder).as_posix()
        for root, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in EXTENSIONS
    ]
    pairs, alone = pair_names(found)
    if not pairs:
        rule = f"holds no JSONL, no Parquet and, among {len(found)} images, no two whose names make them a pair"
        raise InputError("path", str(folder), rule, f"Name them {_HABITS}.")
    told = [Unreadable(path, "no file in the folder is its partner by name") for path in alone]
    places = [(pair.name, [folder / pair.reference], folder / pair.target) for pair in pairs]
    return FileSamples(folder.resolve().name, places, told)


def _image(path: Path) -> Row:
    return {"bytes": read_image(path, path.name, DEFAULT_MAX_BYTES), "path": path.name}
