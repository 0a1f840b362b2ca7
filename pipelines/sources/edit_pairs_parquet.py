"""The `edit_pairs_parquet` source: before/after pairs whose images lie in the Parquet files themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, field_validator

from pipelines.parquet_files import read_footer
from pipelines.shards.table import maps_from_lists
from pipelines.source import Partition, Source, reject_repeats
from pipelines.sources.parquet_tables import (
    as_image_column,
    as_image_lists,
    read_row_groups,
    renamed,
    row_group_partitions,
)
from pipelines.sources.place_key import place_key
from pipelines.step import StepResult, set_column
from schemas.config import Config
from schemas.keys import pair_key
from schemas.outcomes import rejections
from schemas.records import EDIT_PAIR, EDIT_SAMPLE

NEEDED = ("references", "target", "instruction")


class EditPairsParquetConfig(Config):
    """Which files, and how their columns are named."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Parquet files, folders with some, or globs."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Field -> the column that holds it, where the name differs: `{references: source_img, target: edited_img}`.
    Image columns are struct<bytes, path> or plain binary; references may be a list of those."""

    source: str | None = None
    """Name of the data set, for rows that do not say."""

    licence: str | None = None
    """Licence of the images, for rows that do not say."""

    needs_instruction: bool = True
    """Whether a row without an instruction is rejected; if not, its instruction is empty."""

    rows_per_partition: int = Field(default=64, ge=1)
    """A partition is closed before it would hold more rows; a single larger row group is a partition by itself. All
    its images are in memory together."""

    @field_validator("columns")
    @classmethod
    def _known_fields(cls, columns: dict[str, str]) -> dict[str, str]:
        known = [name for name in EDIT_SAMPLE.fields.names if name != "key"]
        unknown = sorted(set(columns) - set(known))
        if unknown:
            raise ValueError(f"'{unknown[0]}' is no field; fields are {', '.join(known)}")
        if len(set(columns.values())) != len(columns):
            raise ValueError("must not name a column twice")
        return columns


class EditPairsParquet(Source[EditPairsParquetConfig]):
    """Rows as `EditPair`. What a row has of an `EditSample` beyond that (a mask, say) travels along; other columns are
    left out. Keys are made from the content again, so that they do not depend on what a file claims. Where a file has
    no column `source_key`, it is FILE#ROW, rows counted from 0."""

    name: ClassVar[str] = "edit_pairs_parquet"
    version: ClassVar[int] = 2
    config_class: ClassVar[type[Config]] = EditPairsParquetConfig

    def partitions(self) -> Sequence[Partition]:
        """Ranges of row groups, in the order of the files. Reads footers only.

        Raises:
            InputError: a path means no file, a file is no Parquet, or there is no row at all.
            SchemaError: a file lacks columns.
        """
        wanted = [self.config.columns.get(name, name) for name in NEEDED]
        named = [name for name in self.config.columns.values() if name not in wanted]
        mend = f"Say under which names they stand: columns: {{{wanted[0]}: NAME, ...}}."
        return row_group_partitions(self.config.paths, self.config.rows_per_partition, [*wanted, *named], mend)

    def read(self, partition: Partition) -> StepResult:
        """The pairs of one partition.

        Raises:
            InputError: the file is damaged.
            SchemaError: a column has a type that cannot hold what it should.
        """
        wanted = {self.config.columns.get(name, name) for name in EDIT_SAMPLE.fields.names if name != "key"}
        table = read_row_groups(partition, wanted)
        places = [f"row {number} from row group {partition.start}" for number in range(table.num_rows)]
        name = self.config.columns.get("source_key", "source_key")
        if name not in table.column_names:
            footer = read_footer(partition.path)
            first = sum(footer.row_group(group).num_rows for group in range(partition.start))
            file = partition.path.rpartition("/")[2]
            found = [f"{file}#{first + number}" for number in range(table.num_rows)]
            table = table.append_column(name, pa.array(found, pa.string()))
        return self.pairs_of(table, partition.path, places)

    def pairs_of(self, table: pa.Table, path: str, places: Sequence[str]) -> StepResult:
        """The pairs in `table`, as it stands in the file `path`.

        Args:
            places: what to call each row where it makes no pair.

        Raises:
            SchemaError: a column has a type that cannot hold what it should.
        """
        table = maps_from_lists(renamed(table, self.config.columns), EDIT_SAMPLE)
        table = table.select(
            [name for name in EDIT_SAMPLE.fields.names if name in table.column_names and name != "key"]
        )
        for name in ("target", "mask"):
            if name in table.column_names:
                table = set_column(table, EDIT_SAMPLE.fields.field(name), as_image_column(table[name], name))
        references = as_image_lists(table["references"], "references")
        table = set_column(table, EDIT_PAIR.fields.field("references"), references)
        kind = table["instruction"].type
        if not self.config.needs_instruction and (pa.types.is_string(kind) or pa.types.is_null(kind)):
            texts = table["instruction"].cast(pa.string()).fill_null("")
            table = set_column(table, EDIT_PAIR.fields.field("instruction"), texts)
        keys, refused = self._keys(table, path, places)
        bad = [(key, *why) for key, why in zip(keys, refused, strict=True) if why is not None]
        good = pa.array([why is None for why in refused], pa.bool_())
        table = self._defaults(table.append_column("key", pa.array(keys, pa.string())).filter(good))
        unique = reject_repeats(self, EDIT_PAIR.conform(table))
        bad_keys, reasons, sentences = zip(*bad, strict=True) if bad else ((), (), ())
        outcomes = rejections(self.name, self.version, bad_keys, reasons, sentences)
        return StepResult(unique.kept, pa.concat_tables([outcomes, unique.rejected]))

    def _keys(
        self, table: pa.Table, path: str, places: Sequence[str]
    ) -> tuple[list[str], list[tuple[str, str] | None]]:
        keys: list[str] = []
        refused: list[tuple[str, str] | None] = []
        view = table.select(NEEDED)
        for number in range(table.num_rows):
            row = view.slice(number, 1).to_pylist()[0]
            why = _fault(row, self.config.needs_instruction)
            if why is None:
                references = [image["bytes"] for image in row["references"]]
                keys.append(pair_key(references, row["target"]["bytes"], row["instruction"]))
                refused.append(None)
            else:
                keys.append(place_key(path, places[number]))
                refused.append((why[0], f"{places[number]}: {why[1]}"))
        return keys, refused

    def _defaults(self, table: pa.Table) -> pa.Table:
        for name, value in (("source", self.config.source), ("licence", self.config.licence)):
            if value is not None:
                field = EDIT_PAIR.fields.field(name)
                column = table[name].cast(pa.string()).fill_null(value) if name in table.column_names else None
                filled = pa.array([value] * table.num_rows, pa.string()) if column is None else column
                table = set_column(table, field, filled)
        return table


def _fault(row: dict[str, Any], needs_instruction: bool) -> tuple[str, str] | None:
    if not row["references"]:
        return "references_missing", "there is no reference image"
    for what, image in (
        *((f"reference {n}", image) for n, image in enumerate(row["references"])),
        ("target", row["target"]),
    ):
        if image is None or not image["bytes"]:
            return "image_empty", f"the {what} has no bytes"
    if not isinstance(row["instruction"], str) or (needs_instruction and not row["instruction"].strip()):
        return "instruction_missing", "the instruction is missing or blank"
    return None
