"""The `img2dataset` source: images that img2dataset fetched (format webdataset), NNNNN.tar beside NNNNN.parquet.

The Parquet has a row for every address that was tried, the tar only those that came: rows here are those of the
Parquet, so that the counts add up to what img2dataset was given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from pipelines.local_files import DEFAULT_MAX_BYTES
from pipelines.metadata_filter.columns import as_record_column, file_columns
from pipelines.parquet_files import read_footer
from pipelines.source import Partition, Source, reject_repeats
from pipelines.sources.place_key import place_key
from pipelines.sources.split_tar import TarMember
from pipelines.sources.tar_samples_index import SamplesIndex, samples_index
from pipelines.step import StepResult
from schemas.atomic import fingerprint
from schemas.config import Config
from schemas.errors import InputError, RowRejected, SchemaError
from schemas.keys import image_key
from schemas.outcomes import rejections
from schemas.record import RecordSchema
from schemas.records import IMAGE_RECORD

STATUS, ERROR, KEY = "status", "error_message", "key"
SUCCESS = "success"
_FAILURES = ("failed_to_download", "failed_to_resize")
_NO_IMAGES = ("txt", "json")
# Hashes there are of what was downloaded; what lies in the tar may have been resized and encoded anew.
_NOT_OURS = ("sha256", "md5")


class Img2datasetConfig(Config):
    """Where img2dataset wrote."""

    path: str
    """Its output folder, or one .parquet file of it."""
    rows_per_partition: int = Field(default=256, ge=1)
    """Rows of a partition; the images of all are in memory together."""
    max_image_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1)
    """Largest image that is read, in bytes, inclusive."""
    skip_unfinished: bool = False
    """Leave out a shard whose .parquet is missing or broken off, as a killed img2dataset leaves it, instead of
    stopping."""


class Img2dataset(Source[Img2datasetConfig]):
    """Rows as `ImageRecord` with their images, as they lie in the tar; `sha256` is that of these bytes. What
    img2dataset could not fetch is rejected (`img2dataset_failed_to_download`, with its message)."""

    name: ClassVar[str] = "img2dataset"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = Img2datasetConfig
    provides: ClassVar[RecordSchema | None] = IMAGE_RECORD

    def identity(self) -> dict[str, Any]:
        """As the base has it, without where the data lies and how it is cut: partitions tell that."""
        kept = {"max_image_bytes": self.config.max_image_bytes}
        return {"source": self.name, "version": self.version, "config": kept}

    def partitions(self) -> Sequence[Partition]:
        """Ranges of rows of each .parquet, in the order of their names. Reads footers only.

        Raises:
            InputError: the path is missing, holds no .parquet or no row, or a .tar has no .parquet beside it.
            SchemaError: a .parquet lacks img2dataset's columns.
        """
        partitions: list[Partition] = []
        for path in self._files():
            try:
                footer = read_footer(str(path))
            except InputError as error:
                if self.config.skip_unfinished:
                    continue
                raise _unfinished(str(path), "is no whole Parquet file") from error
            schema = footer.schema.to_arrow_schema()
            file_columns(schema, str(path))
            missing = [name for name in (KEY, STATUS) if name not in schema.names]
            if missing:
                mend = "Name the output folder of an img2dataset run with output_format webdataset."
                raise SchemaError(str(path), schema.names, f"lacks img2dataset's column '{missing[0]}'", mend)
            what = [path.name, *_stamp(path), *_stamp(path.with_suffix(".tar"))]
            for start in range(0, footer.num_rows, self.config.rows_per_partition):
                stop = min(start + self.config.rows_per_partition, footer.num_rows)
                name = f"{len(partitions):05d}-{fingerprint([*what, start, stop])}"
                partitions.append(Partition(name, str(path), start, stop))
        if not partitions:
            raise InputError("path", self.config.path, "holds no row", "Name the output folder of img2dataset.")
        return partitions

    def read(self, partition: Partition) -> StepResult:
        """The records of one partition; every row without its image is rejected with a reason.

        Raises:
            InputError: the .parquet is damaged.
        """
        path = Path(partition.path)
        table = _rows(path, partition)
        tar = path.with_suffix(".tar")
        index = samples_index(tar)
        columns = file_columns(table.schema, partition.path)
        own = [name for name in columns.names if name not in _NOT_OURS]
        try:
            records = {name: as_record_column(name, table[columns.names[name]]) for name in own}
        except pa.ArrowInvalid as error:
            raise _damaged(path, error) from error
        urls = records["url"].to_pylist()
        captions = records["caption"].to_pylist() if "caption" in records else [None] * table.num_rows
        details = [table[name].to_pylist() if name in table.column_names else [None] * len(urls) for name in _DETAILS]
        keys: list[str] = []
        images: list[dict[str, Any]] = []
        kept: list[int] = []
        refused: list[tuple[str, str, str]] = []
        for place, (url, caption, *detail) in enumerate(zip(urls, captions, *details, strict=True)):
            there = f"row {partition.start + place}"
            key = image_key(url, caption) if url else place_key(partition.path, there)
            try:
                image = self._image(url, detail, tar, index)
            except RowRejected as rejection:
                refused.append((key, rejection.reason, f"{path.name}, {there}: {rejection.sentence}"))
            else:
                keys.append(key)
                images.append(image)
                kept.append(place)
        chosen = pa.table(records).take(pa.array(kept, pa.int64()))
        given = {
            "key": pa.array(keys, pa.string()),
            "image": pa.array(images, IMAGE_RECORD.fields.field("image").type),
            "sha256": pa.array([hashlib.sha256(image["bytes"]).hexdigest() for image in images], pa.string()),
        }
        named = {name: chosen[name] for name in chosen.column_names if name not in given}
        unique = reject_repeats(self, IMAGE_RECORD.conform(pa.table({**given, **named})))
        bad_keys, reasons, sentences = zip(*refused, strict=True) if refused else ((), (), ())
        outcomes = rejections(self.name, self.version, bad_keys, reasons, sentences)
        return StepResult(unique.kept, pa.concat_tables([outcomes, unique.rejected]))

    def _image(self, url: str | None, detail: Sequence[Any], tar: Path, index: SamplesIndex) -> dict[str, Any]:
        status, message, key = detail
        if not url:
            raise RowRejected("url_missing", "there is no address")
        if status != SUCCESS:
            reason = f"img2dataset_{status}" if status in _FAILURES else "img2dataset_failed"
            raise RowRejected(reason, f"{url}: img2dataset says {status}: {message}")
        members = index.samples.get(key, {})
        extension = next((extension for extension in members if extension not in _NO_IMAGES), None)
        if extension is None:
            fault = f"; the tar {index.fault}" if index.fault else ""
            raise RowRejected("image_not_found", f"'{key}' is not in {tar.name}{fault}")
        return {"bytes": self._bytes(tar, members[extension], key), "path": f"{key}.{extension}"}

    def _bytes(self, tar: Path, member: TarMember, key: str) -> bytes:
        if not member.size:
            raise RowRejected("image_empty", f"'{key}' has no bytes in {tar.name}")
        if member.size > self.config.max_image_bytes:
            raise RowRejected(
                "image_too_many_bytes",
                f"'{key}' has {member.size} bytes; at most {self.config.max_image_bytes} are allowed",
            )
        try:
            with tar.open("rb") as stream:
                stream.seek(member.offset)
                return stream.read(member.size)
        except OSError as error:
            raise RowRejected("image_unreadable", f"'{key}' cannot be read from {tar.name} ({error})") from error

    def _files(self) -> list[Path]:
        path = Path(self.config.path)
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise InputError("path", self.config.path, "does not exist", "Name the output folder of img2dataset.")
        found = sorted(path.glob("*.parquet"))
        alone = [tar.name for tar in sorted(path.glob("*.tar")) if not tar.with_suffix(".parquet").exists()]
        if alone and not self.config.skip_unfinished:
            raise _unfinished(alone[0], f"and {len(alone) - 1} more have no .parquet beside them")
        if not found:
            raise InputError("path", self.config.path, "holds no .parquet", "Name the output folder of img2dataset.")
        return found


_DETAILS = (STATUS, ERROR, KEY)


def _unfinished(what: str, rule: str) -> InputError:
    return InputError(
        "path",
        what,
        f"{rule}: img2dataset did not finish it",
        "Let it finish (incremental mode), or leave such shards out with skip_unfinished: true.",
    )


def _rows(path: Path, partition: Partition) -> pa.Table:
    try:
        table = pq.read_table(path)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    return table.slice(partition.start, partition.stop - partition.start)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(str(path), "its rows", f"cannot be read ({error})", "Fetch the file again.")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
