"""Commit records: the small JSON files that say what of a run is done. Readers trust these, never a glob."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError, model_validator

from schemas.atomic import write_json
from schemas.config import Config


class CommittedFile(Config):
    """One file of a run folder, as it was when it was committed."""

    name: str
    """Path relative to the run folder, with forward slashes."""
    rows: int
    bytes: int
    sha256: str

    def is_in(self, folder: Path) -> bool:
        """Whether the file stands in `folder` with the committed size (its hash is checked where it is read)."""
        path = folder / self.name
        return path.is_file() and path.stat().st_size == self.bytes


class Commit(Config):
    """One stage is done for one partition."""

    partition: str
    position: int
    stage: str
    version: int
    fingerprint: str
    rows_in: int
    kept: int
    rejected: dict[str, int]
    """Reason -> rows. rows_in = kept + the sum of these."""
    figures: dict[str, int] = Field(default_factory=dict)
    """What else the stage had to tell, as numbers that add up over partitions."""
    delta: CommittedFile
    """The kept keys, in order, and the columns that the step added."""
    outcomes: CommittedFile | None
    """Rejected rows; None where there are none. Fewer than `rejected` has where a source only counts most of them."""
    seconds: float
    """Wall time of the work, without waiting."""

    @model_validator(mode="after")
    def _adds_up(self) -> Commit:
        if self.rows_in != self.kept + sum(self.rejected.values()):
            raise ValueError("rows in must equal rows kept + rows rejected")
        return self

    @property
    def files(self) -> tuple[CommittedFile, ...]:
        """The files the commit vouches for."""
        return (self.delta,) if self.outcomes is None else (self.delta, self.outcomes)


class Finished(Config):
    """A partition went through the whole chain, and what users read of it is written."""

    partition: str
    fingerprint: str
    records: CommittedFile | None
    """The full rows after the last step; None where the pipeline ends in a pack."""
    outcomes: CommittedFile | None
    """Every rejected row of every stage; None where there are none."""

    @property
    def files(self) -> tuple[CommittedFile, ...]:
        """The files the commit vouches for."""
        return tuple(file for file in (self.records, self.outcomes) if file is not None)


class Decision(Config):
    """What a `DatasetStep` decided over all partitions."""

    fingerprint: str
    inputs: str
    """Hash of what every partition's stages before it had committed; with others the decision is made again."""
    table: CommittedFile

    @property
    def files(self) -> tuple[CommittedFile, ...]:
        """The files the commit vouches for."""
        return (self.table,)


CommitT = TypeVar("CommitT", Commit, Finished, Decision)


def write_commit(path: Path, commit: Commit | Finished | Decision) -> None:
    """Write a commit record, whole or not at all; the files it names must be durable already."""
    write_json(path, commit.as_json())


def read_commit(path: Path, commit_class: type[CommitT], fingerprint: str, folder: Path) -> CommitT | None:
    """The commit record at `path`, or None where the work must be done (again).

    That is so where there is no record, it cannot be parsed, it was made under another fingerprint, or a file it names
    is gone or has another size.
    """
    try:
        commit = commit_class.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    valid = commit.fingerprint == fingerprint and all(file.is_in(folder) for file in commit.files)
    return commit if valid else None
