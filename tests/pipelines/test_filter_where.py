"""The filter's `where`: it keeps what SQL's logic keeps, and what it cannot mean is told before a row is read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.metadata_filter import LaionParquet, MetadataFilterConfig
from pipelines.metadata_filter.where_parse import Node, parse_where
from schemas.config import parse_config
from schemas.errors import ConfigError, SchemaError

NAN = float("nan")
ROWS = [
    # AESTHETIC_SCORE, WIDTH, HEIGHT, TEXT, LANGUAGE, extra
    (6.5, 512, 512, "a red cup", "en", True),
    (5.0, 1024, None, "A Cat", "en", None),
    (NAN, 70_000, 70_000, "it's 100% wool", "fr", False),
    (None, 200, 300, None, None, True),
    (6.3, 300, 200, "", "de", False),
    (9.0, 2048, 1024, "blue", "en", True),
]
NAMES = ("AESTHETIC_SCORE", "WIDTH", "HEIGHT", "TEXT", "LANGUAGE", "extra")


@pytest.fixture
def file(tmp_path: Path) -> str:
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)}
    table = pa.table({"URL": [str(row) for row in range(len(ROWS))], **columns})
    table = table.set_column(1, "AESTHETIC_SCORE", pa.array(columns["AESTHETIC_SCORE"], pa.float32()))
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
    return str(tmp_path / "rows.parquet")


def kept(file: str, where: str, **values: object) -> list[int]:
    source = LaionParquet(parse_config(MetadataFilterConfig, {"paths": file, "where": where, **values}, "filter"))
    results = [source.read(partition) for partition in source.partitions()]
    assert sum(result.rows for result in results) == len(ROWS)
    return [int(url) for result in results for url in result.kept["url"].to_pylist()]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("aesthetic >= 6 and width*height > 200000", [0, 5]),
        ("AESTHETIC_SCORE >= 6.3", [0, 4, 5]),  # float32 on both sides, though 6.3 as a double is less
        ("6.3 <= aesthetic", [0, 4, 5]),
        ("width * height > 2e9", [2]),  # beyond int32
        ("aesthetic is null", [2, 3]),  # NaN counts as null
        ("not aesthetic is null and not (aesthetic > 6)", [1]),
        ("aesthetic > 6 or height is null", [0, 1, 4, 5]),
        ("width between 300 and 1024", [0, 1, 4]),
        ("width not in (512, 300)", [1, 2, 3, 5]),
        ("lower(caption) like 'a%' and language = 'en'", [0, 1]),
        ("caption ilike '%CAT' or caption = 'it''s 100% wool'", [1, 2]),
        ("length(caption) = 0", [4]),
        ("extra", [0, 3, 5]),
        ("extra = false", [2, 4]),
        ("greatest(width, height) / least(width, height) <= 1.5", [0, 2, 3, 4]),
        ("width / (height - 512) > 0", [2, 5]),  # division by zero is unknown
        ("starts_with(\"TEXT\", 'blue') and width % 1000 = 48", [5]),
        ("-aesthetic < -8 or true and false", [5]),
    ],
)
def test_what_is_kept(file: str, where: str, expected: list[int]) -> None:
    assert kept(file, where) == expected
    assert kept(file, where, outcomes="rows") == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "at the end"),
        ("aesthetic >", "found the end"),
        ("aesthetic >= 6 and", "found the end"),
        ("aesthetic >== 6", "character 13"),
        ("aesthetic >= 6)", "expected AND, OR or the end"),
        ("caption = 'open", "no closing quote"),
        ("select 1", "expected AND, OR or the end"),
        ("aesthetic >= 6; drop table x", "cannot read"),
        ("width = (select 1)", "expected"),
        ("(" * 60 + "1" + ")" * 60, "nested more than 50"),
        (" and ".join(["width > 1"] * 200), "more than 400 words"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_config(where: str, message: str) -> None:
    with pytest.raises(ConfigError, match="where") as error:
        parse_config(MetadataFilterConfig, {"paths": "x", "where": where}, "filter")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("aesthetik > 6", "did you mean aesthetic?"),
        ("caption >= 6", "a text is compared with a number"),
        ("aesthetic", "not a condition"),
        ("width and height", "AND needs a boolean"),
        ("read_text('/etc/passwd') = 'x'", "there is no function 'read_text'"),
        ("lower(width) = 'x'", "lower needs a text"),
        ("least(width) > 3", "takes 2 to 8 arguments"),
        ("watermark > 0.5", "no column 'watermark'"),
    ],
)
def test_what_does_not_fit_the_file_is_told_before_a_row_is_read(file: str, where: str, message: str) -> None:
    source = LaionParquet(MetadataFilterConfig(paths=(file,), where=where))
    with pytest.raises(SchemaError) as error:
        source.partitions()
    assert message in str(error.value) and "character" in str(error.value)


COLUMNS = {"aesthetic": 0, "width": 1, "height": 2}
atoms = st.one_of(
    st.sampled_from(list(COLUMNS)), st.sampled_from(["512", "6.3", "0", "1024", "300"]), st.just("width - height")
)
comparisons = st.builds(
    lambda left, sign, right: f"({left}) {sign} ({right})",
    atoms,
    st.sampled_from(["<", "<=", ">", ">=", "=", "<>"]),
    atoms,
)
expressions = st.recursive(
    st.one_of(comparisons, st.sampled_from(list(COLUMNS)).map(lambda name: f"{name} is null")),
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        inner.map("not {}".format),
    ),
    max_leaves=6,
)


def value_of(node: Node, row: tuple) -> float | None:
    if node.kind == "number":
        return float(node.value)
    if node.kind == "column":
        value = row[COLUMNS[node.value]]
        return None if value is None or value != value else float(pa.scalar(value, pa.float32()).as_py())
    left, right = (value_of(part, row) for part in node.parts)
    return None if left is None or right is None else left - right


def truth_of(node: Node, row: tuple) -> bool | None:
    """SQL's three values, naively."""
    if node.kind in ("and", "or"):
        found = [truth_of(part, row) for part in node.parts]
        decisive = node.kind == "or"
        return decisive if decisive in found else None if None in found else not decisive
    if node.kind == "not":
        inner = truth_of(node.parts[0], row)
        return None if inner is None else not inner
    if node.kind == "is null":
        return value_of(node.parts[0], row) is None
    left, right = (value_of(part, row) for part in node.parts)
    if left is None or right is None:
        return None
    singles = [part.kind == "number" or part.value == "aesthetic" for part in node.parts]
    if all(singles) and {part.kind for part in node.parts} != {"number"}:
        left, right = (pa.scalar(side, pa.float32()).as_py() for side in (left, right))
    signs = {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right, "=": left == right}
    return signs.get(node.kind, left != right)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=expressions)
def test_any_expression_keeps_what_three_valued_logic_keeps(file: str, where: str) -> None:
    tree = parse_where(where)
    assert kept(file, where) == [number for number, row in enumerate(ROWS) if truth_of(tree, row) is True]
