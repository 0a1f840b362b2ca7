"""The `imgedit` source: ImgEdit (sysuyy/ImgEdit), 1.2 million edits in one turn or several.

Layout, as the README of PKU-YuanGroup/ImgEdit has it: `Parquet/TASK_partN.parquet` with the columns input_images and
output_images (lists of paths) and prompt, or, for several turns, one column data (list of structs of those three);
the images in `Singleturn/*.tar.split.000`, `.001`, ... and `Multiturn/*.tar.split.000`, ..., each archive cut into
parts that joined make a tar, in which the paths stand. Licence Apache-2.0, as people who repackaged the data set state;
its card was not seen. They also found that some paths are given without folders, and that those of hybrid_part*.parquet
begin with results_compose where the archives have results_hybrid: a name that only one file ends with is found, and
`path_prefixes` maps the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from pipelines.local_files import DEFAULT_MAX_BYTES, read_image, resolve_below
from pipelines.parquet_files import ParquetFile, find_files, read_footer
from pipelines.source import Partition, Source
from pipelines.sources.pair_rows import PairRows, make_pair
from pipelines.sources.parquet_rows import DEFAULT_PARTITION_BYTES, read_rows, row_partitions
from pipelines.sources.split_tar import SplitTar, find_archives
from pipelines.sources.tar_index import TarIndex, archives_mark, make_index
from pipelines.step import StepResult
from schemas.config import Config
from schemas.errors import InputError, RowRejected, SchemaError
from schemas.record import RecordSchema
from schemas.records import EDIT_PAIR

_SINGLE = ("input_images", "output_images", "prompt")
_MULTI = "data"
_IMAGE_FOLDERS = ("Singleturn", "Multiturn")
_PART = re.compile(r"(?P<task>.+?)(_part\d+.*)?")


class ImgEditConfig(Config):
    """Where the data set is, and which part of it."""

    path: str
    """Folder that the data set was downloaded to: with Parquet/, Singleturn/ and Multiturn/. Archives need not be
    joined or unpacked; images that were unpacked are found in the same folders, or directly in this one."""

    tasks: tuple[str, ...] = ("*",)
    """Which tasks, by the names of the Parquet files without `_partN`: names or patterns, as `add` or `style_*`."""

    turns: Literal["all", "single", "multi"] = "all"
    """Which files: those of one turn, those of several turns, or all."""

    path_prefixes: dict[str, str] = Field(default_factory=dict)
    """What paths begin with -> what to read instead: `{results_compose: results_hybrid}`."""

    index_folder: str | None = None
    """Where to keep the index of the archives, which is made at the first run; default `.editmill` in `path`. On a
    cluster, a folder that all nodes share."""

    cut_off_archives: Literal["refuse", "use"] = "refuse"
    """An archive that is damaged or cut off, because a part is still being downloaded, say: refuse it, or use what
    stands before the damage."""

    source: str = "ImgEdit"
    """Name of the data set that rows carry."""

    licence: str = "Apache-2.0"
    """Licence that rows carry."""

    rows_per_partition: int = Field(default=64, ge=1)
    """Rows of the Parquet files in a partition. All their images are in memory together."""

    max_image_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1)
    """Largest image that is read, in bytes, inclusive."""


@dataclass(frozen=True)
class IndexedPartition(Partition):
    """A partition whose images are found through an index.

    Args:
        index: path of the index; None where there is no archive.
        archives: the archives, in the order of the index.
    """

    index: str | None
    archives: tuple[SplitTar, ...]


class ImgEdit(Source[ImgEditConfig]):
    """Each turn as a pair. `edit_type` is the task, `source_key` is FILE#ROW, or FILE#ROW.TURN.

    A later turn that names no input image has the images that the turn before made as its references.
    """

    name: ClassVar[str] = "imgedit"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = ImgEditConfig
    provides: ClassVar[RecordSchema | None] = EDIT_PAIR

    def identity(self) -> dict[str, Any]:
        """As the base has it, without where the index is kept."""
        config = self.config.as_json()
        return {"source": self.name, "version": self.version, "config": {**config, "index_folder": None}}

    def partitions(self) -> Sequence[Partition]:
        """Ranges of rows of the Parquet files. Reads their footers, and the headers of all archives where there is no
        index of them yet.

        Raises:
            InputError: there is no Parquet file of these tasks and turns, one is damaged, an archive lacks a part, is
                damaged or cut off.
            SchemaError: a file has other columns than ImgEdit's.
        """
        root = Path(self.config.path)
        if not root.is_dir():
            raise InputError("path", str(root), "is no folder", "Name the folder that ImgEdit was downloaded to.")
        files = self._files(root)
        archives = tuple(find_archives([root / name for name in _IMAGE_FOLDERS if (root / name).is_dir()] or [root]))
        index = None
        if archives:
            folder = Path(self.config.index_folder or root / ".editmill")
            index = str(make_index(archives, folder, self.config.cut_off_archives == "use"))
        salt = [archives_mark(archives)]
        ranges = row_partitions(files, self.config.rows_per_partition, DEFAULT_PARTITION_BYTES, salt)
        return [IndexedPartition(one.name, one.path, one.start, one.stop, index, archives) for one in ranges]

    def read(self, partition: Partition) -> StepResult:
        """The pairs of one partition; turns that make none are rejected.

        Raises:
            InputError: the Parquet file, an archive or the index is damaged.
        """
        if not isinstance(partition, IndexedPartition):
            raise InputError("partition", partition.name, "is of another source", "Start the run again.")
        names = read_footer(partition.path).schema.to_arrow_schema().names
        rows = PairRows(self, partition.path, self.config.source)
        with ExitStack() as stack:
            index = None
            if partition.index is not None:
                index = TarIndex(Path(partition.index))
                stack.callback(index.close)
            images = _Images(self.config, partition.archives, index)
            for position, values in read_rows(partition, [_MULTI] if _MULTI in names else _SINGLE):
                self._add_row(rows, images, partition.path, position, values)
        return rows.result()

    def _add_row(self, rows: PairRows, images: _Images, path: str, position: int, values: Mapping[str, Any]) -> None:
        file = path.rpartition("/")[2]
        try:
            turns = list(_turns(values))
        except RowRejected as rejection:
            rows.reject(f"row {position}", rejection)
            return
        before: list[str] = []
        for number, turn in enumerate(turns):
            place = f"row {position}" if _MULTI not in values else f"row {position}, turn {number}"
            try:
                references, targets = _names(turn.get("input_images")) or before, _names(turn.get("output_images"))
                before = targets
                if len(targets) != 1:
                    reason = "target_missing" if not targets else "targets_several"
                    raise RowRejected(reason, f"there are {len(targets)} output images; a pair has one")
                if not references:
                    raise RowRejected("references_missing", "there is no input image")
                pair = make_pair(
                    [images.read(name) for name in references],
                    images.read(targets[0]),
                    turn.get("prompt"),
                    edit_type=task_of(file),
                    source=self.config.source,
                    licence=self.config.licence,
                    source_key=f"{file}#{position}" if _MULTI not in values else f"{file}#{position}.{number}",
                )
            except RowRejected as rejection:
                rows.reject(place, rejection)
            else:
                rows.keep(pair)

    def _files(self, root: Path) -> list[ParquetFile]:
        listed = root / "Parquet" if (root / "Parquet").is_dir() else root
        found = find_files([str(listed)])
        chosen = []
        for file in found:
            if not any(fnmatchcase(task_of(file.path.rpartition("/")[2]), task) for task in self.config.tasks):
                continue
            names = read_footer(file.path).schema.to_arrow_schema()
            multi = _MULTI in names.names
            _check_columns(names, file.path)
            if self.config.turns in ("all", "multi" if multi else "single"):
                chosen.append(file)
        if not chosen:
            there = ", ".join(sorted({task_of(file.path.rpartition("/")[2]) for file in found}))
            raise InputError(
                "tasks",
                list(self.config.tasks),
                f"mean no file with turns: {self.config.turns}; tasks there are {there}",
                "Choose among them.",
            )
        return chosen


class _Images:
    """Reads images by the paths that the Parquet files give."""

    def __init__(self, config: ImgEditConfig, archives: Sequence[SplitTar], index: TarIndex | None) -> None:
        self._config, self._archives, self._index = config, archives, index
        root = Path(config.path)
        self._folders = [root, *(root / name for name in _IMAGE_FOLDERS)]

    def read(self, given: str) -> dict[str, Any]:
        """The image of this path: from a file where it was unpacked, else from the archive that has it.

        Raises:
            RowRejected: `image_outside`, `image_not_found`, `image_ambiguous`, `image_empty`, `image_too_many_bytes`,
                `image_unreadable`.
            InputError: an archive or the index is damaged.
        """
        name = self._mapped(given)
        for folder in self._folders:
            path, remembered = resolve_below(folder, name, allow_outside=False)
            if os.path.isfile(path):
                return {"bytes": read_image(path, name, self._config.max_image_bytes), "path": remembered}
        found = None if self._index is None else self._index.find(name.removeprefix("./"))
        if found is None:
            raise RowRejected("image_not_found", f"'{name}' is neither unpacked nor in an archive")
        if found.size == 0:
            raise RowRejected("image_empty", f"'{name}' has no bytes")
        if found.size > self._config.max_image_bytes:
            limit = self._config.max_image_bytes
            raise RowRejected("image_too_many_bytes", f"'{name}' has {found.size} bytes; at most {limit} are allowed")
        return {"bytes": self._archives[found.archive].read(found.offset, found.size), "path": name}

    def _mapped(self, name: str) -> str:
        for old, new in self._config.path_prefixes.items():
            if name.startswith(old):
                return new + name.removeprefix(old)
        return name


def task_of(file: str) -> str:
    """The task in a Parquet file's name: `add` in add_part0.parquet."""
    match = _PART.fullmatch(file.removesuffix(".parquet"))
    return file if match is None else match["task"]


def _check_columns(schema: pa.Schema, path: str) -> None:
    names = schema.names
    if _MULTI in names:
        kind = schema.field(_MULTI).type
        value = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
        if value is not None and pa.types.is_struct(value):
            return
        raise SchemaError(
            f"{path}: {_MULTI}", str(kind), "must be a list of structs, one a turn", "Fetch it as released."
        )
    missing = [name for name in _SINGLE if name not in names]
    if missing:
        raise SchemaError(path, names, f"lacks the column '{missing[0]}' that ImgEdit has", "Leave the file out.")


def _turns(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if _MULTI not in values:
        yield values
        return
    turns = values[_MULTI]
    if not turns:
        raise RowRejected("turns_missing", "the row has no turn")
    for turn in turns:
        yield turn or {}


def _names(value: Any) -> list[str]:
    """The paths in a text, a list of texts, or lists of lists of them."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value] if value.strip() else []
    if not isinstance(value, list):
        raise RowRejected("field_type", f"image paths must be texts, not {type(value).__name__}")
    return [name for one in value for name in _names(one)]
