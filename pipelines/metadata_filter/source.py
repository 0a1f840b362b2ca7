"""The `laion_parquet` source: metadata rows read, filtered and accounted for, one range of row groups at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipelines.metadata_filter.columns import FileColumns, as_record_column, file_columns
from pipelines.metadata_filter.config import MetadataFilterConfig
from pipelines.metadata_filter.rules import Rule, all_pass, bounded_columns, check_bounds_have_columns, rules
from pipelines.parquet_files import ParquetFile, damaged, find_files, locate, read_footer, row_group_ranges
from pipelines.source import Partition, Source, reject_repeats
from pipelines.step import StepResult
from schemas.atomic import fingerprint
from schemas.config import Config
from schemas.errors import ContractError, InputError, SchemaError
from schemas.keys import image_key
from schemas.outcomes import OUTCOME, REJECTED
from schemas.record import RecordSchema
from schemas.records import IMAGE_RECORD

_BATCH_ROWS = 65_536
_READ_AHEAD = 2
"""Batches that pyarrow may decode in advance: enough to overlap reading and filtering, and bounded."""


class LaionParquet(Source[MetadataFilterConfig]):
    """LAION-style Parquet as `ImageRecord` rows that meet the config's bounds; every other row is rejected."""

    name: ClassVar[str] = "laion_parquet"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = MetadataFilterConfig
    provides: ClassVar[RecordSchema | None] = IMAGE_RECORD

    def identity(self) -> dict[str, Any]:
        """The bounds; where the files lie and how they are cut changes no row (a partition's name tells that)."""
        values = super().identity()
        kept = {name: value for name, value in values["config"].items() if name not in ("paths", "rows_per_partition")}
        return {**values, "config": kept}

    def columns(self) -> tuple[str, ...]:
        """Those of an `ImageRecord` that metadata can fill: `image` and `captions` are for steps to add."""
        return tuple(name for name in IMAGE_RECORD.fields.names if name not in ("image", "captions"))

    def partitions(self) -> Sequence[Partition]:
        """Ranges of row groups of about `rows_per_partition` rows, in the order of the files. Reads footers only.

        Raises:
            InputError: a path means no file, a file is no Parquet, or there is no row at all.
            SchemaError: a file has no url, lacks a column that a bound needs, or has one of the wrong type; or every
                aesthetic score lies in 0..1 although `score_scale` declares 1-10.
        """
        result: list[Partition] = []
        highest_score: list[float | None] = []
        for file in find_files(self.config.paths):
            metadata = read_footer(file.path)
            columns = self._columns(metadata.schema.to_arrow_schema(), file.path)
            highest_score += _highest_scores(metadata, columns)
            for start, stop in row_group_ranges(metadata, self.config.rows_per_partition):
                result.append(_partition(len(result), file, start, stop))
        if not result:
            raise InputError("paths", list(self.config.paths), "hold no row", "Name files with rows.")
        self._check_scale(highest_score)
        return result

    def read(self, partition: Partition) -> StepResult:
        """The kept rows of one partition as `ImageRecord`, in input order, and an outcome for each of the others.

        Raises:
            InputError: the file changed its form or broke since `partitions`, or is damaged in the middle.
        """
        filesystem, inner = locate(partition.path)
        groups = list(range(partition.start, partition.stop))
        metadata = read_footer(partition.path)
        columns = self._columns(metadata.schema.to_arrow_schema(), partition.path)
        chain = rules(self.config, columns)
        keep = all_pass(chain)
        fragment = ds.ParquetFileFormat().make_fragment(inner, filesystem, row_groups=groups)
        shown = set(bounded_columns(self.config)) | {"url", "caption", "width", "height"}
        try:
            kept = _scan(fragment, {name: columns.field(name) for name in columns.names}, keep)
            failing = _scan(
                fragment,
                {name: columns.field(name) for name in columns.names if name in shown}
                | {f"passes {place}": rule.passes for place, rule in enumerate(chain)},
                ~keep,
            )
            kept, unreadable = _split_unreadable(kept)
            records = _as_records(kept)
        except (pa.ArrowInvalid, OSError) as error:
            raise damaged(partition.path, partition.start, partition.stop, error) from error
        rows = sum(metadata.row_group(group).num_rows for group in groups)
        if kept.num_rows + unreadable.num_rows + failing.num_rows != rows:
            raise ContractError(
                f"source '{self.name}'",
                {"rows": rows, "kept": kept.num_rows, "rejected": failing.num_rows + unreadable.num_rows},
                "rows read must equal rows kept + rows rejected",
                "The file changed while it was read: start again.",
            )
        unique = reject_repeats(self, records)
        rejected = [self._outcomes(failing, chain), self._unreadable_outcomes(unreadable), unique.rejected]
        return StepResult(unique.kept, pa.concat_tables(rejected))

    def _columns(self, schema: pa.Schema, path: str) -> FileColumns:
        columns = file_columns(schema, path)
        check_bounds_have_columns(self.config, columns, path)
        return columns

    def _check_scale(self, highest: Sequence[float | None]) -> None:
        """All scores in 0..1 under a declared 1-10 means another scale; without full statistics nothing is claimed."""
        if "aesthetic" not in bounded_columns(self.config) or self.config.score_scale != "laion_1_10":
            return
        known = [value for value in highest if value is not None]
        if known and len(known) == len(highest) and max(known) <= 1.0:
            raise SchemaError(
                "aesthetic",
                f"at most {max(known):g} in every file",
                "does not look like the declared score_scale laion_1_10",
                "Declare score_scale: unit_0_1 and give the bounds on that scale.",
            )

    def _outcomes(self, failing: pa.Table, chain: list[Rule]) -> pa.Table:
        """An outcome for each row of `failing`, in its order, with the first rule that it fails."""
        undecided = pa.chunked_array([pa.repeat(True, failing.num_rows)])
        places, reasons, sentences = [], [], []
        for place, rule in enumerate(chain):
            fails = pc.and_(undecided, pc.invert(failing[f"passes {place}"]))
            undecided = pc.and_not(undecided, fails)
            rows = pc.indices_nonzero(fails)
            if len(rows):
                places.append(rows)
                reasons.append(pa.repeat(rule.reason, len(rows)))
                sentences.append(rule.sentences(failing.filter(fails)))
        if not places:
            return OUTCOME.arrow.empty_table()
        # Rows were gathered rule by rule; this brings them back into input order.
        order = pc.sort_indices(pa.concat_arrays(places))
        reason = pa.concat_arrays(reasons).take(order)
        sentence = pa.chunked_array([chunk for part in sentences for chunk in part.chunks], pa.string()).take(order)
        return self._outcome_table(_keys(failing), reason, sentence)

    def _unreadable_outcomes(self, table: pa.Table) -> pa.Table:
        rows = table.num_rows
        sentence = "a text column of the row is not UTF-8"
        return self._outcome_table(_keys(table), pa.repeat("text_not_utf8", rows), pa.repeat(sentence, rows))

    def _outcome_table(self, keys: list[str], reason: pa.Array, sentence: pa.Array | pa.ChunkedArray) -> pa.Table:
        rows = len(keys)
        constants = [pa.repeat(value, rows) for value in (self.name, pa.scalar(self.version, pa.int32()), REJECTED)]
        columns = [pa.array(keys, pa.string()), *constants, reason, sentence]
        nulls = [pa.nulls(rows, pa.string())] * (len(OUTCOME.fields) - len(columns))
        return pa.Table.from_arrays([*columns, *nulls], schema=OUTCOME.arrow)


def _partition(position: int, file: ParquetFile, start: int, stop: int) -> Partition:
    what = [file.path, start, stop, file.bytes, file.changed_ns]
    return Partition(f"{position:05d}-{fingerprint(what)}", file.path, start, stop)


def _highest_scores(metadata: pq.FileMetaData, columns: FileColumns) -> list[float | None]:
    """The greatest aesthetic score of each row group by its statistics; None where there are none."""
    if "aesthetic" not in columns.names:
        return []
    paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
    place = paths.index(columns.names["aesthetic"])
    highest: list[float | None] = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(place).statistics
        highest.append(float(statistics.max) if statistics is not None and statistics.has_min_max else None)
    return highest


def _scan(fragment: ds.ParquetFileFragment, columns: dict[str, pc.Expression], keep: pc.Expression) -> pa.Table:
    scanner = fragment.scanner(
        columns=columns, filter=keep, batch_size=_BATCH_ROWS, batch_readahead=_READ_AHEAD, fragment_readahead=1
    )
    return scanner.to_table()


def _split_unreadable(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows whose texts are UTF-8, and the others: Parquet does not promise that a text column holds text."""
    readable = [True] * table.num_rows
    for name in table.column_names:
        column = table[name]
        try:
            as_record_column(name, column).validate(full=True)
        except pa.ArrowInvalid:
            if not _holds_text(column.type):
                raise
            for position, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
                readable[position] &= value is None or _is_utf8(value)
    if all(readable):
        return table, table.slice(0, 0)
    mask = pa.array(readable)
    return table.filter(mask), table.filter(pc.invert(mask))


def _holds_text(found: pa.DataType) -> bool:
    kinds = pa.types
    return bool(
        kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_binary(found) or kinds.is_large_binary(found)
    )


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _as_records(table: pa.Table) -> pa.Table:
    columns = {name: as_record_column(name, table[name]) for name in table.column_names}
    return IMAGE_RECORD.conform(pa.table({"key": pa.array(_keys(table), pa.string()), **columns}))


def _keys(table: pa.Table) -> list[str]:
    """The key of each row; a row without url has one from its caption alone."""
    captions = _texts(table["caption"]) if "caption" in table.column_names else [None] * table.num_rows
    return [image_key(url or "", caption) for url, caption in zip(_texts(table["url"]), captions, strict=True)]


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    if _holds_text(column.type):
        try:
            values: list[str | None] = column.cast(pa.large_string()).to_pylist()
        except (pa.ArrowInvalid, UnicodeDecodeError):
            encoded: list[bytes | None] = column.cast(pa.large_binary()).to_pylist()
            return [None if value is None else value.decode(errors="replace") for value in encoded]
        return values
    texts: list[str | None] = as_record_column("caption", column).to_pylist()
    return texts
