"""Pairs among plain image files, found by their names, as people keep them before there is any list of them.

Three habits are known: a mark at the end of the name (`cat_src.png`, `cat_tgt.png`), a mark after a dot
(`cat.reference.jpg`, `cat.target.jpg`), and a folder each (`before/cat.jpg`, `after/cat.png`). Extensions may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from schemas.image_format import FORMATS

HABITS: tuple[tuple[str, str], ...] = (
    ("reference", "target"),
    ("source", "target"),
    ("before", "after"),
    ("input", "output"),
    ("src", "tgt"),
    ("ref", "tgt"),
)
"""(mark of the reference, mark of the target); capitals do not count."""
EXTENSIONS = frozenset({f".{known.extension}" for known in FORMATS} | {".jpeg", ".tiff", ".pgm", ".bmp", ".j2k"})
"""Of files that are taken for images, in lower case."""


@dataclass(frozen=True)
class NamedPair:
    """Two image files that belong together.

    Args:
        name: what they share.
        reference, target: their paths.
    """

    name: str
    reference: str
    target: str


def pair_names(paths: Sequence[str]) -> tuple[list[NamedPair], list[str]]:
    """The pairs among image files, and the files that have no partner.

    Args:
        paths: relative to the folder that is looked at, with forward slashes.

    Returns:
        Pairs sorted by name, and the other paths, sorted. A file is in one pair at most; where a name has several
        references or targets, none of them is taken, since nobody can tell which belong together.
    """
    sides: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for path in sorted(paths):
        for mark, name in _readings(path):
            sides.setdefault(name, {}).setdefault(mark, []).append((mark, path))
    pairs: list[NamedPair] = []
    taken: set[str] = set()
    for name in sorted(sides):
        for first, second in HABITS:
            befores, afters = sides[name].get(first, []), sides[name].get(second, [])
            if len(befores) == 1 and len(afters) == 1 and not taken & {befores[0][1], afters[0][1]}:
                pairs.append(NamedPair(name, befores[0][1], afters[0][1]))
                taken |= {befores[0][1], afters[0][1]}
    return pairs, sorted(set(paths) - taken)


def _readings(path: str) -> list[tuple[str, str]]:
    """(mark, name without it) for each habit that the path may follow."""
    whole = PurePosixPath(path)
    stem = whole.with_suffix("")
    marks = {mark for habit in HABITS for mark in habit}
    readings = []
    for mark in sorted(marks):
        for separator in ("_", "-", ".", " "):
            ending = f"{separator}{mark}"
            if stem.name.lower().endswith(ending) and len(stem.name) > len(ending):
                readings.append((mark, str(stem.with_name(stem.name[: -len(ending)]))))
    for position, part in enumerate(stem.parts[:-1]):
        if part.lower() in marks:
            readings.append((part.lower(), "/".join((*stem.parts[:position], *stem.parts[position + 1 :]))))
    return readings
