"""The `image_records_parquet` source: `ImageRecord` tables, as the metadata filter or a run's records have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from pipelines.source import Partition, Source, reject_repeats
from pipelines.sources.parquet_tables import as_image_column, read_row_groups, row_group_partitions
from pipelines.sources.place_key import place_key
from pipelines.step import StepResult, set_column
from schemas.config import Config
from schemas.keys import image_key, is_key
from schemas.outcomes import rejections
from schemas.record import RecordSchema
from schemas.records import IMAGE_RECORD


class ImageRecordsParquetConfig(Config):
    """Which files."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Parquet files, folders with some, or globs. Columns are named as in `ImageRecord`; LAION's own files are read by
    the source `laion_parquet`."""

    rows_per_partition: int = Field(default=256, ge=1)
    """A partition is closed before it would hold more rows; a single larger row group is a partition by itself."""


class ImageRecordsParquet(Source[ImageRecordsParquetConfig]):
    """Rows as `ImageRecord`; columns that it does not know travel along. A row without a key gets one from its address
    and caption."""

    name: ClassVar[str] = "image_records_parquet"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = ImageRecordsParquetConfig
    provides: ClassVar[RecordSchema | None] = IMAGE_RECORD

    def partitions(self) -> Sequence[Partition]:
        """Ranges of row groups, in the order of the files. Reads footers only.

        Raises:
            InputError: a path means no file, a file is no Parquet, or there is no row at all.
            SchemaError: a file has no column `url`.
        """
        mend = "Read LAION's own files with the source laion_parquet."
        return row_group_partitions(self.config.paths, self.config.rows_per_partition, ["url"], mend)

    def read(self, partition: Partition) -> StepResult:
        """The records of one partition; rows without an address are rejected (`url_missing`).

        Raises:
            InputError: the file is damaged.
            SchemaError: a column has another type than the record's.
        """
        table = read_row_groups(partition)
        if "image" in table.column_names:
            table = set_column(table, IMAGE_RECORD.fields.field("image"), as_image_column(table["image"], "image"))
        nothing = [None] * table.num_rows
        given = table["key"].to_pylist() if "key" in table.column_names else nothing
        captions = table["caption"].to_pylist() if "caption" in table.column_names else nothing
        keys: list[str] = []
        refused: list[tuple[str, str]] = []
        good: list[bool] = []
        for number, (key, url, caption) in enumerate(zip(given, table["url"].to_pylist(), captions, strict=True)):
            good.append(bool(url))
            if not url:
                place = f"row {number} from row group {partition.start}"
                keys.append(place_key(partition.path, place))
                refused.append((keys[-1], f"{place}: there is no address"))
            else:
                keys.append(key if isinstance(key, str) and is_key(key) else image_key(url, caption))
        table = set_column(table, IMAGE_RECORD.fields.field("key"), pa.array(keys, pa.string()))
        unique = reject_repeats(self, IMAGE_RECORD.conform(table.filter(pa.array(good, pa.bool_()))))
        bad_keys, sentences = zip(*refused, strict=True) if refused else ((), ())
        outcomes = rejections(self.name, self.version, bad_keys, ["url_missing"] * len(bad_keys), sentences)
        return StepResult(unique.kept, pa.concat_tables([outcomes, unique.rejected]))
