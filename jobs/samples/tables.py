"""Samples in Parquet files: the records of a run, and pairs with their images inside."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.run_records import RunRecords, RunRecordsConfig
from jobs.samples.base import Row, Samples, Unreadable
from pipelines.parquet_files import damaged, locate, read_footer
from pipelines.sources.edit_pairs_parquet import EditPairsParquet

_ROWS_AT_ONCE = 8
"""Rows of a row group that are in memory together, images and all."""


class TableSamples(Samples):
    """Rows of Parquet files that have a record's columns.

    Args:
        name: heading.
        paths: the files, in order.
    """

    def __init__(self, name: str, paths: Sequence[str]) -> None:
        self.name = name
        self._paths = list(paths)
        footers = [read_footer(path) for path in self._paths]
        self._starts = [0, *accumulate(footer.num_rows for footer in footers)]
        columns = set.intersection(*(set(footer.schema.to_arrow_schema().names) for footer in footers))
        self._is_masked = {"mask", "mask_status", "edited_fraction"} <= columns
        self._has_keys = "key" in columns
        if "image" in columns and "references" not in columns:
            self.kind = "images"

    def __len__(self) -> int:
        return self._starts[-1]

    def keys(self) -> list[str] | None:
        """From their column alone, where the files have it."""
        keys: list[str] = self._columns("key")["key"].to_pylist() if self._has_keys else []
        return keys if self._has_keys else None

    def statuses(self) -> Sequence[str | None]:
        """From their column alone, where the files have it."""
        return self._known["mask_status"].to_pylist() if self._is_masked else super().statuses()

    def fractions(self) -> Sequence[float | None]:
        """From their column alone, where the files have it."""
        return self._known["edited_fraction"].to_pylist() if self._is_masked else super().fractions()

    def rows(self, positions: Sequence[int]) -> Iterator[Row | Unreadable]:
        """Row groups without a wanted row are not read, the others a few rows at a time."""
        by_file = groupby(positions, lambda position: bisect_right(self._starts, position) - 1)
        for file, chosen in by_file:
            path, first = self._paths[file], self._starts[file]
            for number, table in _chosen_rows(path, [position - first for position in chosen]):
                yield self.row_of(path, number, table)

    def row_of(self, path: str, number: int, table: pa.Table) -> Row | Unreadable:
        """The sample in `table`, which is row `number` of the file `path`."""
        row: Row = table.to_pylist()[0]
        return row

    @cached_property
    def _known(self) -> pa.Table:
        return self._columns("mask_status", "edited_fraction")

    def _columns(self, *names: str) -> pa.Table:
        """These columns of all rows, and nothing else of the files."""
        tables = []
        for path in self._paths:
            filesystem, inner = locate(path)
            try:
                with filesystem.open_input_file(inner) as stream:
                    tables.append(pq.ParquetFile(stream, pre_buffer=False).read(columns=list(names)).select(names))
            except (pa.ArrowException, OSError) as error:
                raise damaged(path, 0, read_footer(path).num_row_groups, error) from error
        return pa.concat_tables(tables, promote_options="default")


class RunSamples(TableSamples):
    """The records of a finished run."""

    def __init__(self, folder: Path) -> None:
        partitions = RunRecords(RunRecordsConfig(path=folder)).partitions()
        files = dict.fromkeys(str(folder / partition.path) for partition in partitions)
        super().__init__(folder.resolve().name, list(files))


class PairTableSamples(TableSamples):
    """Pairs as the source `edit_pairs_parquet` reads them."""

    def __init__(self, name: str, source: EditPairsParquet) -> None:
        # The source looks at every footer, and says what is missing.
        files = dict.fromkeys(partition.path for partition in source.partitions())
        super().__init__(name, list(files))
        self._source = source

    def row_of(self, path: str, number: int, table: pa.Table) -> Row | Unreadable:
        """Renamed, typed and checked by the source."""
        result = self._source.pairs_of(table, path, [f"row {number}"])
        if result.kept.num_rows:
            return super().row_of(path, number, result.kept)
        return Unreadable(Path(path).name, result.rejected["sentence"][0].as_py())


def _chosen_rows(path: str, numbers: Sequence[int]) -> Iterator[tuple[int, pa.Table]]:
    """(number, table of that row) of the rows `numbers`, which ascend."""
    filesystem, inner = locate(path)
    group = 0
    try:
        with filesystem.open_input_file(inner) as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            starts = [0, *accumulate(sizes)]
            for group, chosen in groupby(numbers, lambda number: bisect_right(starts, number) - 1):
                wanted, before = list(chosen), starts[group]
                for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group]):
                    here = [number for number in wanted if before <= number < before + batch.num_rows]
                    for number in here:
                        table = pa.Table.from_batches([batch.slice(number - before, 1)])
                        table.validate(full=True)
                        yield number, table
                    before += batch.num_rows
                    if before > wanted[-1]:
                        break
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, group, group + 1, error) from error
