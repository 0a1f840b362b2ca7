"""The `laion_parquet` source: metadata rows read, filtered and accounted for, one range of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.metadata_filter.columns import SCORES, SIZES, TEXTS, FileColumns, file_columns
from pipelines.metadata_filter.config import MetadataFilterConfig
from pipelines.metadata_filter.engine import RowRanges, is_local, query
from pipelines.metadata_filter.number_rules import Rule
from pipelines.metadata_filter.ranges import bytes_of_ranges, cut, group_starts, partition_ranges
from pipelines.metadata_filter.rules import bounded_columns, check_bounds_have_columns, rules
from pipelines.metadata_filter.scales import check_not_unit, check_scales
from pipelines.metadata_filter.skipping import Demand, demands_of
from pipelines.metadata_filter.sql import name_literal
from pipelines.metadata_filter.statistics import ColumnStatistics, column_places, group_statistics, merged
from pipelines.metadata_filter.tables import (
    CODE,
    as_records,
    code_sql,
    failing_outcomes,
    split_unreadable,
    unreadable_outcomes,
)
from pipelines.parquet_files import ParquetFile, find_files, read_footer
from pipelines.source import Partition, Source, reject_repeats
from pipelines.step import StepResult
from schemas.atomic import fingerprint
from schemas.config import Config
from schemas.errors import ContractError, InputError
from schemas.outcomes import no_rejections
from schemas.record import RecordSchema
from schemas.records import IMAGE_RECORD

EXAMPLES = 3
"""Rejected rows written for each reason, where the others are only counted."""
EXAMPLE_ROWS = 20_000
"""They are looked for among so many rows at the beginning of the input."""


FEW = 0.1
"""Share of rows."""
PIECE = 150_000
"""Rows that pass are fetched about so many at a time: a result is for a moment in memory more than once."""


class LaionParquet(Source[MetadataFilterConfig]):
    """LAION-style Parquet as `ImageRecord` rows that meet the config's bounds; every other row is rejected."""

    name: ClassVar[str] = "laion_parquet"
    version: ClassVar[int] = 2
    config_class: ClassVar[type[Config]] = MetadataFilterConfig
    provides: ClassVar[RecordSchema | None] = IMAGE_RECORD
    reads_ahead: ClassVar[bool] = True

    def identity(self) -> dict[str, Any]:
        """The bounds; where the files lie and how they are cut changes no row (a partition's name tells that)."""
        values = super().identity()
        kept = {name: value for name, value in values["config"].items() if name not in ("paths", "rows_per_partition")}
        return {**values, "config": kept}

    def columns(self) -> tuple[str, ...]:
        """Those of an `ImageRecord` that metadata can fill: `image` and `captions` are for steps to add."""
        return tuple(name for name in IMAGE_RECORD.fields.names if name not in ("image", "captions"))

    def partitions(self) -> Sequence[Partition]:
        """Ranges of rows, in the order of the files. Reads footers only.

        Raises:
            InputError: a path means no file, a file is no Parquet, or there is no row at all.
            SchemaError: a file has no url, lacks a column that a bound or `where` needs, or has one of the wrong type;
                or the statistics of a score that the filter uses leave its scale.
        """
        result: list[Partition] = []
        for file in find_files(self.config.paths):
            metadata = read_footer(file.path)
            columns = self._columns(metadata, file.path)
            chain = rules(self.config, columns, file.path, as_bytes=False)
            self._check_scales(metadata, chain, columns, file.path)
            starts = group_starts(metadata)
            for start, stop in partition_ranges(starts, self.config.rows_per_partition, is_local(file.path)):
                result.append(_partition(len(result), file, start, stop))
        if not result:
            raise InputError("paths", list(self.config.paths), "hold no row", "Name files with rows.")
        return result

    def outlook(self, partitions: Sequence[Partition]) -> dict[str, int]:
        """Row groups, and those whose statistics show that no row can pass; the bytes of all columns, and those that
        are read of the other groups."""
        figures = dict.fromkeys(("row_groups", "row_groups_skipped", "rows_never_read", "bytes", "bytes_to_read"), 0)
        for path, parts in groupby(partitions, key=lambda partition: partition.path):
            metadata = read_footer(path)
            columns = self._columns(metadata, path)
            demands = demands_of(self.config) if self.config.outcomes == "examples" else []
            places = _places(metadata, columns, demands)
            used = {column for rule in rules(self.config, columns, path, as_bytes=False) for column in rule.columns}
            for part in parts:
                what = cut(metadata, part.start, part.stop, demands, places)
                figures["row_groups"] += what.groups
                figures["row_groups_skipped"] += what.groups_skipped
                figures["rows_never_read"] += sum(what.skipped.values())
                names = used.union(columns.names.values())
                figures["bytes"] += bytes_of_ranges(metadata, [(part.start, part.stop)], columns.types)
                figures["bytes_to_read"] += bytes_of_ranges(metadata, what.ranges, names)
        return figures

    def read(self, partition: Partition) -> StepResult:
        """The kept rows of one partition as `ImageRecord`, in input order; of the others, outcomes and counts.

        Raises:
            InputError: the file changed its form or broke since `partitions`, or is damaged in the middle.
        """
        metadata = read_footer(partition.path)
        columns = self._columns(metadata, partition.path)
        demands = demands_of(self.config) if self.config.outcomes == "examples" else []
        what = cut(metadata, partition.start, partition.stop, demands, _places(metadata, columns, demands))
        figures = {"row_groups": what.groups, "row_groups_skipped": what.groups_skipped}
        figures["rows_never_read"] = sum(what.skipped.values())
        if not what.ranges:
            return StepResult(IMAGE_RECORD.conform(_no_records(columns)), no_rejections(), what.skipped, figures)
        known = _statistics(metadata, columns, what.ranges)
        through_arrow = not (columns.plain and is_local(partition.path))
        rows = RowRanges(partition.path, what.ranges, group_starts(metadata), columns, through_arrow)
        try:
            is_first = partition.name.startswith(f"{0:05d}-")
            try:
                result = self._read(rows, known, is_first)
            except duckdb.Error:
                if through_arrow:
                    raise
                # DuckDB refuses a file as a whole where a text column holds what is no text; PyArrow reads such.
                result = self._read(rows.as_bytes, known, is_first)
            if not read_footer(partition.path).equals(metadata):
                raise ContractError(
                    f"source '{self.name}'",
                    partition.path,
                    "rows read must equal rows kept + rows rejected",
                    "The file changed while it was read: start again.",
                )
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise InputError(
                partition.path,
                f"rows {partition.start} to {partition.stop - 1}",
                f"cannot be read ({error})",
                "Fetch the file again, or leave it out.",
            ) from error
        counted = dict(what.skipped)
        for reason, count in result.counted.items():
            counted[reason] = counted.get(reason, 0) + count
        return StepResult(result.kept, result.rejected, counted, figures)

    def _read(self, rows: RowRanges, known: Mapping[str, ColumnStatistics], is_first: bool) -> StepResult:
        chain = rules(self.config, rows.columns, rows.path, rows.through_arrow, known)
        failed, tables = _few_rows(rows, chain) or _many_rows(rows, chain)
        before = sum(failed.values())
        records, unreadable, passing = [], [], 0
        for table in tables:
            passing += table.num_rows
            passes = pc.equal(table[CODE], -1)
            late = pc.value_counts(table[CODE].filter(pc.invert(passes))).to_pylist()
            for found in late:
                failed[found["values"]] = failed.get(found["values"], 0) + found["counts"]
            kept = table.filter(passes) if late else table
            kept, bad = split_unreadable(kept.drop_columns([CODE]))
            records.append(as_records(kept))
            unreadable.append(unreadable_outcomes(self.name, self.version, bad))
        unique = _unique(self, pa.concat_tables(records))
        if passing + before != rows.rows:
            raise ContractError(
                f"source '{self.name}'",
                {"rows": rows.rows, "passing": passing, "rejected": before},
                "rows read must equal rows kept + rows rejected",
                "The file changed while it was read: start again.",
            )
        told = failing_outcomes(self.name, self.version, self._failing(rows, chain, is_first), chain)
        counted: dict[str, int] = {}
        for code, count in failed.items():
            counted[chain[code].reason] = counted.get(chain[code].reason, 0) + count
        for value in pc.value_counts(told["reason"]).to_pylist():
            counted[value["values"]] -= value["counts"]
        rejected = [told, *unreadable, unique.rejected]
        return StepResult(unique.kept, pa.concat_tables(rejected), {name: n for name, n in counted.items() if n})

    def _failing(self, rows: RowRanges, chain: list[Rule], is_first: bool) -> pa.Table:
        """The rejected rows that are written: all, or the first few of each rule at the beginning of the input."""
        examples = self.config.outcomes == "examples"
        shown = {*bounded_columns(self.config), "url", "caption", "width", "height"}
        names = [name for name in rows.columns.names if name in shown]
        used = {rows.columns.names[name] for name in names}.union(*(rule.columns for rule in chain))
        select = f'{code_sql(chain)} AS "{CODE}", {_selected(rows, names, "<> -1")}'
        if examples and not is_first:
            return pa.table({CODE: pa.array([], pa.int32())})
        among = rows.first(EXAMPLE_ROWS) if examples else rows
        table = query(among, select, [], sorted(used))
        table = table.filter(pc.not_equal(table[CODE], -1))
        if not examples:
            return table
        places = [pc.indices_nonzero(pc.equal(table[CODE], place))[:EXAMPLES] for place in range(len(chain))]
        chosen = pa.concat_arrays(places)
        return table.take(chosen.take(pc.sort_indices(chosen)))

    def _columns(self, metadata: pq.FileMetaData, path: str) -> FileColumns:
        columns = file_columns(metadata.schema.to_arrow_schema(), path)
        check_bounds_have_columns(self.config, columns, path)
        return columns

    def _check_scales(self, metadata: pq.FileMetaData, chain: list[Rule], columns: FileColumns, path: str) -> None:
        """Hold the statistics of the scores that the filter uses against their scales."""
        used = {column for rule in chain for column in rule.columns}
        names = {name: columns.names[name] for name in SCORES if columns.names.get(name) in used}
        places = column_places(metadata, names)
        highest: list[float | None] = []
        for group in range(metadata.num_row_groups if places else 0):
            statistics = group_statistics(metadata, group, places)
            check_scales(path, group, self.config.score_scale, statistics)
            if "aesthetic" in statistics:
                greatest = statistics["aesthetic"].greatest
                highest.append(greatest if isinstance(greatest, float) else None)
        check_not_unit(path, self.config.score_scale, highest)


def _partition(position: int, file: ParquetFile, start: int, stop: int) -> Partition:
    what = [file.path, "rows", start, stop, file.bytes, file.changed_ns]
    return Partition(f"{position:05d}-{fingerprint(what)}", file.path, start, stop)


def _places(metadata: pq.FileMetaData, columns: FileColumns, demands: list[Demand]) -> dict[str, int]:
    found = {demand.column: columns.find(demand.column) for demand in demands}
    return column_places(metadata, {name: column for name, column in found.items() if column is not None})


def _quick(chain: list[Rule], columns: FileColumns) -> int:
    """How many rules, from the first, need neither address nor caption."""
    slow = {columns.names[name] for name in ("url", "caption") if name in columns.names}
    return sum(not slow.intersection(rule.columns) for rule in chain)


def _of_one_column(chain: list[Rule]) -> int:
    """How many rules, from the first, use the column of the first and no other."""
    return next((place for place, rule in enumerate(chain) if rule.columns != chain[0].columns), len(chain))


def _count(rows: RowRanges, chain: list[Rule], stop: int) -> dict[int, int]:
    """Rule -> rows of which it is the first that they fail, for the rules before `stop`."""
    if not stop:
        return {}
    used = sorted({column for rule in chain[:stop] for column in rule.columns})
    found = query(rows, f"{code_sql(chain[:stop])} AS code, count(*) AS number", [], used, "GROUP BY code")
    return {row["code"]: row["number"] for row in found.to_pylist() if row["code"] != -1}


def _few_rows(rows: RowRanges, chain: list[Rule]) -> tuple[dict[int, int], list[pa.Table]] | None:
    """Where the first column's last rule leaves few rows, one pass tells everything: how many fail that rule, and each
    other row with what becomes of it. None where it leaves many: then counting before fetching costs less.
    """
    place = min(_quick(chain, rows.columns), _of_one_column(chain)) - 1
    if place < 0:
        return None
    before = " AND ".join(rule.passes for rule in chain[:place]) or "true"
    table = _fetch(rows, chain, 0, [f"NOT ({before} AND NOT {chain[place].passes})"], f"LIMIT {_few(rows) + 1}")
    return None if table.num_rows > _few(rows) else ({place: rows.rows - table.num_rows}, [table])


def _few(rows: RowRanges) -> int:
    return min(PIECE, int(FEW * rows.rows))


def _many_rows(rows: RowRanges, chain: list[Rule]) -> tuple[dict[int, int], Iterator[pa.Table]]:
    """How many fail the rules on numbers, and the others in pieces, with what becomes of them."""
    quick = _quick(chain, rows.columns)
    failed = _count(rows, chain, quick)
    pieces = rows.parts(-(-(rows.rows - sum(failed.values())) // PIECE))
    return failed, (_fetch(piece, chain, quick, [rule.passes for rule in chain[:quick]]) for piece in pieces)


def _fetch(rows: RowRanges, chain: list[Rule], first: int, where: Sequence[str], end: str = "") -> pa.Table:
    """Rows with all columns and, in `CODE`, what becomes of them by the rules from `first` on."""
    names = list(rows.columns.names)
    used = {rows.columns.names[name] for name in names}.union(*(rule.columns for rule in chain))
    select = f'{code_sql(chain, first)} AS "{CODE}", {_selected(rows, names, "= -1")}'
    return query(rows, select, where, sorted(used), end)


def _selected(rows: RowRanges, names: Sequence[str], code: str) -> str:
    """The columns `names` of an `ImageRecord`.

    Args:
        code: comparison with `CODE` that tells the rows that are wanted; others have no texts, which cost more than
            reading.
    """
    columns = {name: rows.columns.sql(rows.columns.names[name]) for name in names}
    selected = {
        name: f'CASE WHEN "{CODE}" {code} THEN {sql} END' if name in TEXTS else sql for name, sql in columns.items()
    }
    return ", ".join(f"{sql} AS {name_literal(name)}" for name, sql in selected.items())


def _unique(source: LaionParquet, table: pa.Table) -> StepResult:
    if pc.count_distinct(table["key"]).as_py() == table.num_rows:
        return StepResult(table, no_rejections())
    return reject_repeats(source, table)


def _no_records(columns: FileColumns) -> pa.Table:
    fields = [IMAGE_RECORD.fields.field(name) for name in ("key", *columns.names)]
    return pa.schema(fields).empty_table()


def _statistics(
    metadata: pq.FileMetaData, columns: FileColumns, ranges: Sequence[tuple[int, int]]
) -> dict[str, ColumnStatistics]:
    """What the footer knows of the numeric columns, over all row groups that have a row in `ranges`."""
    names = {name: columns.names[name] for name in (*SIZES, *SCORES) if name in columns.names}
    places = column_places(metadata, names)
    groups = [
        group
        for group, (low, high) in enumerate(pairwise(group_starts(metadata)))
        if any(low < stop and high > start for start, stop in ranges)
    ]
    return merged([group_statistics(metadata, group, places) for group in groups])
