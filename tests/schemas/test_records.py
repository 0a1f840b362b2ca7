"""Records are checked with errors that name the column, and a newer version is refused."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.aliases import LAION_ALIASES, resolve_aliases
from schemas.errors import SchemaError, SchemaVersionError
from schemas.keys import image_key, is_key, pair_key
from schemas.outcomes import OUTCOME, no_rejections, rejections
from schemas.record import VERSION_KEY, RecordSchema
from schemas.records import EDIT_PAIR, EDIT_SAMPLE, IMAGE_RECORD

RECORDS = (IMAGE_RECORD, EDIT_PAIR, EDIT_SAMPLE, OUTCOME)


def image_table(**columns: list[object]) -> pa.Table:
    return pa.table({"key": ["a"], "url": ["u"], **columns})


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_empty_table_of_a_record_is_that_record(record: RecordSchema) -> None:
    record.check(record.arrow.empty_table())


def test_conform_casts_adds_and_keeps_unknown_columns() -> None:
    table = IMAGE_RECORD.conform(image_table(width=[640.0], extra=["kept"]))
    assert table["width"].type == pa.int32()
    assert table["height"].null_count == 1
    assert table["extra"].to_pylist() == ["kept"]
    IMAGE_RECORD.check(table)


def test_missing_column_is_named() -> None:
    with pytest.raises(SchemaError, match=r"ImageRecord\.url.*missing"):
        IMAGE_RECORD.check(pa.table({"key": ["a"]}))


def test_null_in_a_required_column_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"url.*1 nulls"):
        IMAGE_RECORD.check(pa.table({"key": ["a"], "url": pa.nulls(1, pa.string())}))


def test_wrong_type_is_refused_and_lossy_cast_too() -> None:
    with pytest.raises(SchemaError, match="width"):
        IMAGE_RECORD.check(image_table(width=["640"]))
    with pytest.raises(SchemaError, match="width"):
        IMAGE_RECORD.conform(image_table(width=[640.5]))


def test_version_survives_parquet_and_a_newer_one_is_refused(tmp_path) -> None:
    table = IMAGE_RECORD.conform(image_table())
    pq.write_table(table, tmp_path / "now.parquet")
    IMAGE_RECORD.check(pq.read_table(tmp_path / "now.parquet"))
    newer = table.replace_schema_metadata({**table.schema.metadata, VERSION_KEY: b"2"})
    pq.write_table(newer, tmp_path / "newer.parquet")
    with pytest.raises(SchemaVersionError, match="Upgrade editmill"):
        IMAGE_RECORD.check(pq.read_table(tmp_path / "newer.parquet"))


def test_every_record_has_a_key_first_and_edit_sample_extends_edit_pair() -> None:
    assert {record.fields.names[0] for record in RECORDS} == {"key"}
    assert EDIT_SAMPLE.fields.names[: len(EDIT_PAIR.fields)] == EDIT_PAIR.fields.names


def test_every_alias_resolves_to_its_column() -> None:
    assert set(LAION_ALIASES) <= set(IMAGE_RECORD.fields.names)
    for canonical, spellings in LAION_ALIASES.items():
        for spelling in spellings:
            assert resolve_aliases([spelling, "unrelated"]) == {canonical: spelling}


def test_own_name_wins_and_two_foreign_spellings_are_refused() -> None:
    assert resolve_aliases(["URL", "url"]) == {"url": "url"}
    with pytest.raises(SchemaError, match="several columns"):
        resolve_aliases(["AESTHETIC_SCORE", "prediction"])


def test_keys_follow_content_alone() -> None:
    assert image_key("u", "c") == image_key("u", "c")
    assert image_key("u", None) == image_key("u", "")
    assert len({image_key("ab", "c"), image_key("a", "bc"), image_key("abc", "")}) == 3
    assert pair_key([b"r"], b"t", "i") != pair_key([b"r", b"r"], b"t", "i")
    assert pair_key([b"r"], b"t", "i") != pair_key([b"t"], b"r", "i")
    assert is_key(pair_key([b"r"], b"t", "i")) and not is_key("has.dot")


def test_rejections_are_outcomes() -> None:
    table = rejections("masks", 1, ["a", "b"], ["too_small", "image_corrupt"], ["first", "second"])
    OUTCOME.check(table)
    assert table["reason"].to_pylist() == ["too_small", "image_corrupt"]
    OUTCOME.check(pa.concat_tables([table, no_rejections()]))
