"""What the filter does not read changes nothing that it keeps, and is counted all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.metadata_filter import LaionParquet, MetadataFilterConfig
from pipelines.metadata_filter import ranges as filter_ranges
from pipelines.metadata_filter.ranges import partition_ranges
from pipelines.step import StepResult
from schemas.config import parse_config


def read(path: str, **values: object) -> list[StepResult]:
    source = LaionParquet(parse_config(MetadataFilterConfig, {"paths": path, **values}, "filter"))
    return [source.read(partition) for partition in source.partitions()]


def urls(results: list[StepResult]) -> list[str]:
    return [url for result in results for url in result.kept["url"].to_pylist()]


def rows(results: list[StepResult]) -> int:
    return sum(result.rows for result in results)


def figure(results: list[StepResult], name: str) -> int:
    return sum(result.figures[name] for result in results)


def sorted_table(seed: int, count: int = 90) -> pa.Table:
    """Scores and sizes in runs, so that statistics tell something; gaps as null and NaN, whole groups of them too."""
    generator = np.random.default_rng(seed)
    score = np.sort(generator.integers(20, 90, count) / 10).astype(np.float32)
    score[generator.random(count) < 0.1] = np.nan
    score[:10] = np.nan
    width = np.sort(generator.choice([256, 511, 512, 1024], count))[:: generator.choice([1, -1])]
    missing = generator.random(count) < 0.1
    missing[40:50] = True
    language = np.repeat(["de", "en", "fr"], count // 3)
    return pa.table(
        {
            "url": [f"https://{number}" for number in range(count)],
            "AESTHETIC_SCORE": pa.array(score),
            "WIDTH": pa.array(width, mask=missing),
            "HEIGHT": pa.array(width),
            "LANGUAGE": pa.array(language, mask=generator.random(count) < 0.1),
        }
    )


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    missing=st.sampled_from(["reject", "keep"]),
    bounds=st.fixed_dictionaries(
        {},
        optional={
            "min_aesthetic": st.sampled_from([1.0, 5.0, 8.9]),
            "max_aesthetic": st.sampled_from([2.0, 5.1]),
            "min_side": st.sampled_from([512, 2000]),
            "min_width": st.sampled_from([512, 1024]),
            "languages": st.sampled_from([["en"], ["es"], ["de", "fr"]]),
            "where": st.sampled_from(
                ["aesthetic > 6.3 and width = 512", "300 > width", "language = 'en' or height > 1"]
            ),
        },
    ).filter(lambda bounds: bounds.get("min_aesthetic", 1) <= bounds.get("max_aesthetic", 10)),
)
def test_statistics_change_nothing_that_is_kept(tmp_path: Path, monkeypatch, seed, missing, bounds) -> None:
    monkeypatch.setattr(filter_ranges, "SHORTEST_GAP", 1)
    table = sorted_table(seed)
    told, untold = str(tmp_path / "told.parquet"), str(tmp_path / "untold.parquet")
    pq.write_table(table, told, row_group_size=10)
    pq.write_table(table, untold, row_group_size=10, write_statistics=False)
    values = {"missing": missing, "rows_per_partition": 40, **bounds}
    with_statistics, without = read(told, **values), read(untold, **values)
    assert urls(with_statistics) == urls(without) == urls(read(told, outcomes="rows", **values))
    assert rows(with_statistics) == rows(without) == table.num_rows
    assert figure(without, "rows_never_read") == 0


def test_row_groups_that_cannot_pass_are_not_read_and_counted(tmp_path: Path) -> None:
    count = 1_000_000
    score = pa.array(np.linspace(1, 9.99, count), pa.float32())
    url = pa.array(np.arange(count)).cast(pa.string())
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"URL": url, "AESTHETIC_SCORE": score}), path, row_group_size=100_000)
    # What is not read may as well be broken.
    chunk = pq.read_metadata(path).row_group(2).column(0)
    with path.open("r+b") as stream:
        stream.seek(chunk.data_page_offset)
        stream.write(b"\xff" * 1000)
    results = read(str(path), min_aesthetic=6.0, rows_per_partition=300_000)
    expected = pc.sum(pc.greater_equal(score, 6.0)).as_py()
    assert sum(result.kept.num_rows for result in results) == expected
    assert rows(results) == count
    assert [figure(results, name) for name in ("row_groups", "row_groups_skipped", "rows_never_read")] == [
        10,
        5,
        500_000,
    ]
    assert sum(result.counted.get("aesthetic_too_low", 0) for result in results) > 500_000


def test_rejected_rows_are_counted_with_a_few_examples(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.parquet")
    pq.write_table(
        pa.table({"url": [str(row) for row in range(100)], "width": [row * 10 for row in range(100)]}),
        path,
        write_statistics=False,
    )
    [counted] = read(path, min_width=500)
    [told] = read(path, min_width=500, outcomes="rows")
    assert counted.kept.equals(told.kept)
    assert counted.rejected["sentence"].to_pylist()[1:3] == [
        "width 10 pixels is under the minimum 500",
        "width 20 pixels is under the minimum 500",
    ]
    assert counted.counted == {"too_narrow": 46} and not told.counted
    assert counted.rejected["reason"].to_pylist() == ["width_invalid", *["too_narrow"] * 3]
    keys = told.rejected["key"].to_pylist()
    assert [key for key in keys if key in counted.rejected["key"].to_pylist()] == keys[:4]


@pytest.mark.parametrize("how", ["local", "memory", "not_utf8", "case"])
def test_a_huge_row_group_is_cut_and_every_way_of_reading_agrees(tmp_path: Path, how: str) -> None:
    count = 2_000
    table = pa.table(
        {
            "URL": [f"https://example.org/{row}" for row in range(count)],
            "TEXT": [None if row % 7 == 0 else f"día {row}" for row in range(count)],
            "WIDTH": [row % 900 for row in range(count)],
            "language": ["en" if row % 3 else "fr" for row in range(count)],
        }
    )
    # A file may be named like a pattern; the folder is what is asked for.
    file, path = tmp_path / "rows[1]*.parquet", str(tmp_path)
    pq.write_table(table, file, row_group_size=count)
    values = {"min_width": 500, "languages": ["en"], "where": "caption like '%1%'", "rows_per_partition": 300}
    expected = read(path, **{**values, "rows_per_partition": count})
    if how == "memory":
        memory = pytest.importorskip("fsspec").filesystem("memory")
        memory.pipe("/filter-ways/rows.parquet", file.read_bytes())
        path = "memory://filter-ways/rows.parquet"
    elif how == "not_utf8":
        # Beyond the bound, so that no row is lost, but in a column that says it holds text.
        texts = [text if row else b"\xff\xfe" for row, text in enumerate(table["TEXT"].cast(pa.binary()).to_pylist())]
        broken = pa.array(texts, pa.binary()).view(pa.string())
        pq.write_table(table.set_column(1, "TEXT", broken), file, row_group_size=count)
    elif how == "case":
        pq.write_table(table.append_column("width", table["WIDTH"]), file, row_group_size=count)
    results = read(path, **values)
    assert len(results) == (1 if how == "memory" else 7)
    assert rows(results) == count
    kept = pa.concat_tables([result.kept for result in results]).combine_chunks()
    assert kept.equals(expected[0].kept.combine_chunks())
    assert figure(results, "row_groups") == 1


def test_partition_ranges_cover_every_row_once() -> None:
    starts = (0, 5, 5, 40, 43, 46, 100)
    for wanted in (1, 4, 10, 30, 1000):
        for may_cut in (True, False):
            found = list(partition_ranges(starts, wanted, may_cut))
            assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])] and found[-1][1] == 100
            assert all(start < stop for start, stop in found)
            longest = max(stop - start for start, stop in found)
            assert longest <= (2 * wanted if may_cut else max(wanted, 54))
