"""What the footer of a Parquet file says of a column in a row group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

Value = float | str


@dataclass(frozen=True)
class ColumnStatistics:
    """One column of a row group, or of several.

    Args:
        rows: in it.
        nulls: of them null, or None where unknown.
        least, greatest: bounds of the other values, both inclusive, or None where unknown; numbers as float. They say
            nothing of NaN: writers leave it out.
        has_nan: whether the type has NaN at all.
    """

    rows: int
    nulls: int | None
    least: Value | None
    greatest: Value | None
    has_nan: bool

    @property
    def all_null(self) -> bool:
        """Whether no row has a value."""
        return self.nulls == self.rows


def column_places(metadata: pq.FileMetaData, names: Mapping[str, str]) -> dict[str, int]:
    """Where in the footer the columns stand.

    Args:
        names: any name -> the file's column.

    Returns:
        The same names -> position, without columns that are nested.
    """
    paths = {metadata.schema.column(place).path: place for place in range(metadata.num_columns)}
    return {name: paths[column] for name, column in names.items() if column in paths}


def group_statistics(metadata: pq.FileMetaData, group: int, places: Mapping[str, int]) -> dict[str, ColumnStatistics]:
    """The statistics of row group `group` for the columns at `places`, under the same names."""
    row_group = metadata.row_group(group)
    found = {}
    for name, place in places.items():
        chunk = row_group.column(place)
        statistics = chunk.statistics
        nulls = statistics.null_count if statistics is not None and statistics.has_null_count else None
        least = greatest = None
        if statistics is not None and statistics.has_min_max:
            least, greatest = _plain(statistics.min), _plain(statistics.max)
            # A writer that let NaN into its bounds has said nothing.
            if least is None or greatest is None or not least <= greatest:  # type: ignore[operator]
                least = greatest = None
        has_nan = chunk.physical_type in ("FLOAT", "DOUBLE", "FIXED_LEN_BYTE_ARRAY")
        found[name] = ColumnStatistics(row_group.num_rows, nulls, least, greatest, has_nan)
    return found


def _plain(value: object) -> Value | None:
    if isinstance(value, str):
        return value
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def merged(parts: Sequence[Mapping[str, ColumnStatistics]]) -> dict[str, ColumnStatistics]:
    """The statistics of all `parts` together, which have the same columns."""
    return {name: _merged([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def _merged(parts: list[ColumnStatistics]) -> ColumnStatistics:
    nulls = [part.nulls for part in parts]
    # A column of nulls alone has no bounds, and adds none.
    bounded = [part for part in parts if not part.all_null]
    least = [part.least for part in bounded]
    greatest = [part.greatest for part in bounded]
    return ColumnStatistics(
        sum(part.rows for part in parts),
        None if None in nulls else sum(one for one in nulls if one is not None),
        None if None in least or not least else min(one for one in least if one is not None),
        None if None in greatest or not greatest else max(one for one in greatest if one is not None),
        any(part.has_nan for part in parts),
    )
