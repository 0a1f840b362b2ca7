"""Which Parquet files a path, a folder or a glob means, on any file system that pyarrow or fsspec reaches; and their
footers, cut into ranges of row groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from schemas.errors import InputError

_GLOB_CHARACTERS = re.compile(r"[*?\[]")
_OPTIONS = re.compile(r"\?\w+=[^?]*$")
"""Behind an address: ?endpoint_override=HOST:PORT&scheme=http. A `?` without `=` is a glob's."""


@dataclass(frozen=True)
class ParquetFile:
    """One file that was found.

    Args:
        path: as a later `locate` understands it, with its scheme.
        bytes: its size.
        changed_ns: time of its last change in nanoseconds since 1970, or 0 where the file system does not tell.
    """

    path: str
    bytes: int
    changed_ns: int


def find_files(paths: Sequence[str]) -> list[ParquetFile]:
    """The files that `paths` mean: in the order of `paths`, sorted by name within one; each file once.

    Raises:
        InputError: a path does not exist, cannot be reached, or means no file at all.
    """
    found: dict[str, ParquetFile] = {}
    for path in paths:
        for file in _expand(path):
            found.setdefault(file.path, file)
    return list(found.values())


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of `path` and the path within it.

    Raises:
        InputError: no installed file system understands the path's scheme.
    """
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).expanduser().absolute())
    try:
        filesystem, inner = fs.FileSystem.from_uri(path)
    except (pa.ArrowInvalid, OSError, ValueError) as arrow_error:
        try:
            import fsspec

            through_fsspec, inner = fsspec.core.url_to_fs(path)
        except (ImportError, ValueError, OSError) as error:
            raise InputError(
                "paths",
                path,
                f"no file system reaches it ({arrow_error}; {error})",
                "Check the scheme, or install the fsspec package for it (s3fs, gcsfs, ...).",
            ) from error
        return fs.PyFileSystem(fs.FSSpecHandler(through_fsspec)), inner
    return filesystem, inner


def read_footer(path: str) -> pq.FileMetaData:
    """The footer of a Parquet file, whose Arrow schema can be had.

    Raises:
        InputError: it is no whole Parquet file.
    """
    filesystem, inner = locate(path)
    try:
        with filesystem.open_input_file(inner) as stream:
            footer = pq.read_metadata(stream)
        # Damage may lie in the schema, even in a column's name, which is decoded only now.
        _ = footer.schema.to_arrow_schema().names
        return footer
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            "paths", path, f"is no whole Parquet file ({error})", "Leave it out or fetch it again."
        ) from error


def damaged(path: str, start: int, stop: int, error: Exception) -> InputError:
    """The error for row groups [start, stop) that cannot be read, behind a footer that can."""
    return InputError(
        path,
        f"row groups {start} to {stop - 1}",
        f"cannot be read ({error})",
        "Fetch the file again, or leave it out.",
    )


def row_group_ranges(footer: pq.FileMetaData, rows_wanted: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of row groups (stop exclusive), each with at least one row and at most `rows_wanted` rows or
    one row group."""
    start, rows = 0, 0
    for group in range(footer.num_row_groups):
        more = footer.row_group(group).num_rows
        if rows and rows + more > rows_wanted:
            yield start, group
            start, rows = group, 0
        rows += more
    if rows:
        yield start, footer.num_row_groups


def _expand(path: str) -> list[ParquetFile]:
    options = found[0] if "://" in path and (found := _OPTIONS.search(path)) else ""
    filesystem, inner = _locate_pattern(path.removesuffix(options), options)
    try:
        if glob := _GLOB_CHARACTERS.search(inner):
            base = inner[: glob.start()].rpartition("/")[0]
            wanted = re.compile(_glob_expression(inner))
            infos = _files_below(filesystem, base or "/")
            chosen = [info for info in infos if wanted.fullmatch(info.path)]
            rule, mend = "matches no file", "Check the pattern; ** crosses folders, * does not."
        else:
            [info] = filesystem.get_file_info([inner])
            if info.type == fs.FileType.Directory:
                chosen = [
                    info
                    for info in _files_below(filesystem, inner)
                    if info.path.endswith(".parquet") and not info.base_name.startswith((".", "_"))
                ]
                rule, mend = "is a folder without *.parquet files", "Name the folder that holds them."
            else:
                chosen = [info] if info.type == fs.FileType.File else []
                rule, mend = "does not exist", "Check the path."
    except OSError as error:
        raise InputError(
            "paths", path, f"cannot be listed ({error})", "Check the path and its access rights."
        ) from error
    if not chosen:
        raise InputError("paths", path, rule, mend)
    scheme = path.partition("://")[0] + "://" if "://" in path else ""
    return [
        ParquetFile(_with_scheme(scheme, info.path) + options, int(info.size or 0), int(info.mtime_ns or 0))
        for info in sorted(chosen, key=lambda info: str(info.path))
    ]


def _locate_pattern(path: str, options: str) -> tuple[fs.FileSystem, str]:
    """As `locate`, of an address that may be a glob: in one with a scheme, `?` would begin its options."""
    glob = _GLOB_CHARACTERS.search(path)
    folder = path[: glob.start()].rpartition("/")[0] if glob is not None else path
    if "://" not in folder:
        return locate(path + options)
    filesystem, inner = locate(folder + options)
    return filesystem, inner.rstrip("/") + path[len(folder) :]


def _with_scheme(scheme: str, inner: str) -> str:
    return scheme + inner.removeprefix(scheme)


def _files_below(filesystem: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    return [info for info in filesystem.get_file_info(selector) if info.type == fs.FileType.File]


def _glob_expression(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", pattern)
    wildcards = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        wildcards[part]
        if part in wildcards
        else part.replace("[!", "[^", 1)
        if part.startswith("[") and part.endswith("]")
        else re.escape(part)
        for part in parts
    )
