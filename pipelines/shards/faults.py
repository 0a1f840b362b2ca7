"""What validation can find wrong with a packed folder."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """Kinds of faults, stable for machines."""

    MANIFEST = "manifest"
    """The manifest is missing, damaged, or names files that no packed folder has."""
    SCHEMA_VERSION = "schema_version"
    """Something was written by a newer editmill, or is another record than the manifest says."""
    COUNTS = "counts"
    """Numbers of rows that should add up do not."""
    MISSING = "missing"
    """A listed file is not there."""
    SIZE = "size"
    """A file has another size than listed."""
    HASH = "hash"
    """A file has another SHA-256 than listed, at the right size: a byte was changed."""
    UNLISTED = "unlisted"
    """A file is there that the manifest does not list."""
    UNFINISHED = "unfinished"
    """What a packing that did not come to its end left behind."""
    DAMAGED = "damaged"
    """A file cannot be read as what it should be: cut off, or altered."""
    INDEX = "index"
    """The index and the shards tell different things."""
    SAMPLE = "sample"
    """A sample in a shard is incomplete or contradicts itself."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong.

    Args:
        file: relative to the packed folder, with forward slashes.
        kind: for machines.
        sentence: for people, with the figures.
    """

    file: str
    kind: FaultKind
    sentence: str
