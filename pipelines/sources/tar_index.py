"""Where each file of many archives lies: a table on disk, made once, so that a name is found without reading archives.

It is an SQLite file: millions of names are found in milliseconds with hardly any memory, by any number of processes.
Names are kept backwards, so that a name without its folders (`0001/result.png`) is found as well as a whole one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipelines.sources.split_tar import SplitTar, members
from schemas.atomic import PARTIAL_SUFFIX, fingerprint, sync_folder, writing
from schemas.errors import InputError, RowRejected

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Found:
    """Where a file lies: the archive's position in the list that was indexed, and its bytes there."""

    archive: int
    offset: int
    size: int


def archives_mark(archives: Sequence[SplitTar]) -> str:
    """A hash of the archives' names, sizes and times of change."""
    stats = [[part.stat().st_mtime_ns for part in archive.parts] for archive in archives]
    return fingerprint([[archive.name, *archive.sizes, *times] for archive, times in zip(archives, stats, strict=True)])


def make_index(archives: Sequence[SplitTar], folder: Path, use_cut_off: bool) -> Path:
    """The index of `archives` in `folder`; made unless it is there. Reads every header of every archive.

    Args:
        use_cut_off: take what stands before the damage in an archive that is damaged or cut off.

    Raises:
        InputError: an archive is damaged or cut off.
        OutputError: the index cannot be written.
    """
    path = folder / f"index-{archives_mark(archives)}{'-cut' if use_cut_off else ''}.sqlite"
    if path.exists():
        return path
    aside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        try:
            with _as_os_error(), closing(sqlite3.connect(aside)) as table:
                table.execute("PRAGMA journal_mode = OFF")
                table.execute("CREATE TABLE members (backwards TEXT, archive INTEGER, offset INTEGER, size INTEGER)")
                for number, archive in enumerate(archives):
                    for rows in _batches(number, archive, use_cut_off):
                        table.executemany("INSERT INTO members VALUES (?, ?, ?, ?)", rows)
                table.execute("CREATE INDEX by_name ON members (backwards)")
                table.commit()
            aside.replace(path)
            sync_folder(folder)
        finally:
            aside.unlink(missing_ok=True)
    return path


class TarIndex:
    """An index, opened to look names up.

    Raises:
        InputError: it is not there or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._table = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def find(self, name: str) -> Found | None:
        """The file of this whole name, or else the only one whose name ends with `/NAME`; None where there is none.

        Raises:
            RowRejected: `image_ambiguous`: several names end so.
            InputError: the index is damaged.
        """
        backwards = _backwards(name)
        # "0" is the character after "/": the range holds what begins with `backwards` and a slash.
        query = "SELECT archive, offset, size FROM members WHERE backwards >= ? AND backwards < ? LIMIT 2"
        try:
            exact = "SELECT archive, offset, size FROM members WHERE backwards = ? LIMIT 1"
            rows = self._table.execute(exact, (backwards,)).fetchall()
            rows = rows or self._table.execute(query, (f"{backwards}/", f"{backwards}0")).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        if len(rows) > 1:
            raise RowRejected("image_ambiguous", f"several files in the archives are called '{name}'")
        return Found(*rows[0]) if rows else None

    def _damaged(self, error: sqlite3.Error) -> InputError:
        return InputError("index", str(self._path), f"cannot be read ({error})", "Delete it; it is made again.")


def _batches(number: int, archive: SplitTar, use_cut_off: bool) -> Iterator[list[tuple[str, int, int, int]]]:
    rows: list[tuple[str, int, int, int]] = []
    try:
        for member in members(archive):
            rows.append((_backwards(member.name), number, member.offset, member.size))
            if len(rows) == _ROWS_AT_ONCE:
                yield rows
                rows = []
    except InputError:
        if not use_cut_off:
            raise
    yield rows


def _backwards(name: str) -> str:
    # Text that is no Unicode cannot be stored; nothing in a Parquet file can name it either.
    return name[::-1].encode("utf-8", "replace").decode()


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
