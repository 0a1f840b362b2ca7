"""The metadata filter: every row is kept or told why not, and what is kept is what a plain filter keeps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.metadata_filter import LaionParquet, MetadataFilterConfig
from pipelines.step import StepResult
from schemas.aliases import LAION_ALIASES
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError, SchemaError, SchemaVersionError
from schemas.keys import image_key
from schemas.outcomes import OUTCOME
from schemas.records import IMAGE_RECORD


def read_all(source: LaionParquet) -> StepResult:
    results = [source.read(partition) for partition in source.partitions()]
    counted: Counter[str] = Counter()
    figures: Counter[str] = Counter()
    for result in results:
        counted.update(result.counted)
        figures.update(result.figures)
    return StepResult(
        pa.concat_tables([result.kept for result in results]),
        pa.concat_tables([result.rejected for result in results]),
        counted,
        figures,
    )


def write(path: Path, rows_per_group: int = 100, **columns: object) -> str:
    pq.write_table(pa.table(columns), path, row_group_size=rows_per_group)
    return str(path)


def source(path: str, **values: object) -> LaionParquet:
    values.setdefault("outcomes", "rows")
    return LaionParquet(parse_config(MetadataFilterConfig, {"paths": path, **values}, "filter"))


def random_table(seed: int, rows: int) -> pd.DataFrame:
    """Values on a coarse grid, so that many lie exactly on a bound; gaps as null and as NaN."""
    generator = np.random.default_rng(seed)

    def gaps(values: np.ndarray) -> np.ndarray:
        return np.where(generator.random(rows) < 0.08, np.nan, values)

    return pd.DataFrame(
        {
            "url": [f"https://example.org/{seed}/{row}.jpg" for row in range(rows)],
            "caption": [None if row % 11 == 0 else f"picture {row}" for row in range(rows)],
            "aesthetic": gaps(generator.integers(10, 100, rows) / 10).astype(np.float32),
            "width": gaps(generator.choice([200, 333, 512, 768, 1024, 2048], rows)),
            "height": gaps(generator.choice([200, 333, 512, 768, 1024], rows)),
            "watermark": gaps(generator.integers(0, 11, rows) / 10).astype(np.float32),
            "unsafe": gaps(generator.integers(0, 11, rows) / 10),
            "similarity": gaps(generator.integers(-10, 11, rows) / 10),
        }
    )


def naive(frame: pd.DataFrame, config: MetadataFilterConfig) -> pd.DataFrame:
    keep_gaps = config.missing == "keep"
    mask = pd.Series(True, index=frame.index)

    def within(values: pd.Series, passes: pd.Series) -> pd.Series:
        return passes | values.isna() if keep_gaps else passes

    for column, bound in (("aesthetic", config.min_aesthetic), ("similarity", config.min_similarity)):
        if bound is not None:
            mask &= within(frame[column], frame[column] >= bound)
    for column, top in (
        ("aesthetic", config.max_aesthetic),
        ("watermark", config.max_watermark),
        ("unsafe", config.max_unsafe),
    ):
        if top is not None:
            mask &= within(frame[column], frame[column] <= top)
    for column, least in (
        ("width", config.min_width),
        ("height", config.min_height),
        ("width", config.min_side),
        ("height", config.min_side),
    ):
        if least is not None:
            mask &= within(frame[column], frame[column] >= least)
    if config.max_aspect is not None:
        longer, shorter = frame[["width", "height"]].max(axis=1), frame[["width", "height"]].min(axis=1)
        either_missing = frame["width"].isna() | frame["height"].isna()
        mask &= (either_missing & keep_gaps) | (~either_missing & (longer / shorter <= config.max_aspect))
    return frame[mask]


BOUNDS = st.fixed_dictionaries(
    {"missing": st.sampled_from(["reject", "keep"])},
    optional={
        "min_aesthetic": st.sampled_from([1.0, 4.7, 5.0, 6.3]),
        "max_aesthetic": st.sampled_from([6.3, 9.1, 10.0]),
        "min_width": st.sampled_from([1, 512, 513]),
        "min_height": st.sampled_from([333, 512]),
        "min_side": st.sampled_from([333, 334]),
        "max_aspect": st.sampled_from([1.0, 1.5, 2.0, 4.0]),
        "max_watermark": st.sampled_from([0.0, 0.1, 0.7]),
        "max_unsafe": st.sampled_from([0.3, 1.0]),
        "min_similarity": st.sampled_from([-0.7, 0.1, 0.3]),
    },
)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bounds=BOUNDS, seed=st.integers(0, 2**32 - 1), spelling=st.randoms(use_true_random=False))
def test_kept_is_what_a_plain_filter_keeps_and_nothing_vanishes(tmp_path, bounds, seed, spelling) -> None:
    frame = random_table(seed, rows=120)
    names = {
        column: spelling.choice(spellings) for column, spellings in LAION_ALIASES.items() if column in frame.columns
    }
    # Half the tables hold the gaps as null, half as NaN: both are missing.
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if seed % 2:
        table = pa.table({name: pa.array(frame[name].to_numpy(), from_pandas=name == "caption") for name in frame})
    path = tmp_path / "rows.parquet"
    pq.write_table(table.rename_columns([names[name] for name in table.column_names]), path, row_group_size=17)
    reader = source(str(path), rows_per_partition=40, **bounds)
    result = read_all(reader)
    assert result.kept.num_rows + result.rejected.num_rows == len(frame)
    assert result.kept["url"].to_pylist() == naive(frame, reader.config)["url"].tolist()
    IMAGE_RECORD.check(result.kept)
    OUTCOME.check(result.rejected)
    keys = [image_key(url, caption if isinstance(caption, str) else None) for url, caption in frame.values[:, :2]]
    assert sorted(result.kept["key"].to_pylist() + result.rejected["key"].to_pylist()) == sorted(keys)
    assert [key for key in keys if key in set(result.rejected["key"].to_pylist())] == result.rejected["key"].to_pylist()


def test_each_reason_and_its_sentence(tmp_path) -> None:
    rows = [  # url, aesthetic, width, height, watermark, expected reason, a part of the sentence
        ("kept", 5.0, 512.0, 512.0, 0.5, None, None),
        (None, 5.0, 512.0, 512.0, 0.5, "url_missing", "no url"),
        ("", 5.0, 512.0, 512.0, 0.5, "url_missing", "no url"),
        ("a", None, 100.0, 512.0, 0.5, "aesthetic_missing", "null or not a number"),
        ("b", float("nan"), 512.0, 512.0, 0.5, "aesthetic_missing", "null or not a number"),
        ("c", 4.31, 512.0, 512.0, 0.9, "aesthetic_too_low", "aesthetic 4.31 is under the minimum 5"),
        ("d", 9.0, 0.0, 512.0, 0.5, "width_invalid", "width 0 is no whole number of pixels"),
        ("e", 9.0, 512.5, 512.0, 0.5, "width_invalid", "width 512.5"),
        ("f", 9.0, 1e12, 512.0, 0.5, "width_invalid", "from 1 to 2147483647"),
        ("g", 9.0, 511.0, 512.0, 0.5, "too_narrow", "width 511 pixels is under the minimum 512"),
        ("h", 9.0, 1920.0, 400.0, 0.5, "aspect_too_wide", "1920 x 400 pixels is 4.8:1, more than the maximum 3:1"),
        ("i", 9.0, 512.0, 512.0, 0.75, "watermark_too_high", "watermark 0.75 is above the maximum 0.5"),
    ]
    path = write(
        tmp_path / "reasons.parquet",
        URL=[row[0] for row in rows],
        TEXT=[f"text {number}" for number in range(len(rows))],
        AESTHETIC_SCORE=[row[1] for row in rows],
        WIDTH=[row[2] for row in rows],
        HEIGHT=[row[3] for row in rows],
        pwatermark=pa.array([row[4] for row in rows], pa.float32()),
        NSFW=pa.array(["UNLIKELY"] * len(rows)).dictionary_encode(),
        SAMPLE_ID=[1.2e12 + number for number in range(len(rows))],
    )
    result = read_all(source(path, min_aesthetic=5.0, min_width=512, max_aspect=3.0, max_watermark=0.5))
    assert result.rejected["reason"].to_pylist() == [row[5] for row in rows if row[5]]
    for sentence, row in zip(result.rejected["sentence"].to_pylist(), rows[1:], strict=True):
        assert row[6] in sentence
    [kept] = result.kept.to_pylist()
    assert (kept["url"], kept["width"], kept["nsfw"], kept["source_key"]) == ("kept", 512, "UNLIKELY", "1200000000000")


def test_nan_that_the_statistics_of_a_row_group_hide_is_missing(tmp_path) -> None:
    # Statistics leave NaN out: the first group seems to pass a minimum of 5 as a whole, the second to fail it.
    scores = pa.array([6.0, float("nan"), 9.0, 2.0, float("nan"), 3.0], pa.float32())
    path = write(tmp_path / "nan.parquet", rows_per_group=3, url=list("abcdef"), aesthetic=scores)
    rejecting, keeping = source(path, min_aesthetic=5.0), source(path, min_aesthetic=5.0, missing="keep")
    assert read_all(rejecting).kept["url"].to_pylist() == ["a", "c"]
    assert read_all(keeping).kept["url"].to_pylist() == ["a", "b", "c", "e"]
    assert read_all(keeping).kept["aesthetic"].to_pylist() == [6.0, None, 9.0, None]


def test_repeated_rows_and_text_that_is_not_utf8_are_rejected(tmp_path) -> None:
    broken = pa.array([b"https://a", b"https://a", b"https://\xff\xfe", b"https://b"], pa.binary())
    path = write(tmp_path / "text.parquet", url=broken, caption=["same", "same", "other", None])
    result = read_all(source(path))
    assert result.kept["url"].to_pylist() == ["https://a", "https://b"]
    assert sorted(result.rejected["reason"].to_pylist()) == ["repeated_row", "text_not_utf8"]


def test_scale_is_declared_and_held(tmp_path) -> None:
    path = write(tmp_path / "unit.parquet", url=["a", "b", "c"], aesthetic=[0.2, 0.9, 0.5])
    with pytest.raises(ConfigError, match=r"min_aesthetic 0\.5 lies outside.*declare score_scale: unit_0_1"):
        source(path, min_aesthetic=0.5)
    with pytest.raises(ConfigError, match="min_aesthetic 5 lies outside"):
        source(path, score_scale="unit_0_1", min_aesthetic=5.0)
    with pytest.raises(SchemaError, match="score_scale laion_1_10"):
        source(path, min_aesthetic=5.0).partitions()
    assert read_all(source(path, score_scale="unit_0_1", min_aesthetic=0.5)).kept["url"].to_pylist() == ["b", "c"]
    ten = write(tmp_path / "ten.parquet", url=["a", "b"], aesthetic=[0.7, 7.0], similarity=[31.0, 0.3])
    with pytest.raises(SchemaError, match=r"7 in row group 0.*leaves the declared score_scale unit_0_1"):
        source(ten, score_scale="unit_0_1", min_aesthetic=0.5).partitions()
    with pytest.raises(SchemaError, match=r"31 in row group 0.*leaves a cosine"):
        source(ten, min_similarity=0.28).partitions()
    # Without statistics the rows tell.
    table = pq.read_table(ten)
    pq.write_table(table, ten, write_statistics=False)
    rejected = read_all(source(ten, score_scale="unit_0_1", min_aesthetic=0.5)).rejected
    assert rejected["reason"].to_pylist() == ["aesthetic_off_scale"]
    rejected = read_all(source(ten, min_similarity=0.28)).rejected
    assert rejected["reason"].to_pylist() == ["similarity_off_scale"]


def test_bad_input_is_one_clear_error_before_any_row_is_read(tmp_path) -> None:
    good = write(tmp_path / "good.parquet", url=["a"], width=[512])
    with pytest.raises(SchemaError, match="no column for 'aesthetic', which min_aesthetic needs"):
        source(good, min_aesthetic=5.0).partitions()
    with pytest.raises(SchemaError, match="must hold numbers"):
        source(write(tmp_path / "text_width.parquet", url=["a"], width=["512"]), min_width=1).partitions()
    with pytest.raises(SchemaError, match="no column holds the image's address"):
        source(write(tmp_path / "no_url.parquet", caption=["a"])).partitions()
    with pytest.raises(InputError, match="hold no row"):
        source(write(tmp_path / "empty.parquet", url=pa.array([], pa.string()))).partitions()
    for content in (b"", b"this is no Parquet file", Path(good).read_bytes()[:-20]):
        (tmp_path / "broken.parquet").write_bytes(content)
        with pytest.raises(InputError, match="is no whole Parquet file"):
            source(str(tmp_path / "broken.parquet")).partitions()
    for path, rule in (("missing.parquet", "does not exist"), ("none*.parquet", "matches no file")):
        with pytest.raises(InputError, match=rule):
            source(str(tmp_path / path)).partitions()
    with pytest.raises(InputError, match="no file system reaches it"):
        source("nonsense://bucket/rows.parquet").partitions()
    newer = pa.table({"url": ["a"]}).replace_schema_metadata(
        {b"editmill.schema": b"ImageRecord", b"editmill.schema_version": b"9"}
    )
    pq.write_table(newer, tmp_path / "newer.parquet")
    with pytest.raises(SchemaVersionError):
        source(str(tmp_path / "newer.parquet")).partitions()


def test_damage_in_the_middle_is_an_error_that_names_the_file(tmp_path) -> None:
    rows = 5000
    path = Path(write(tmp_path / "damaged.parquet", url=[f"https://example.org/{row}" for row in range(rows)]))
    content = bytearray(path.read_bytes())
    content[40:2000] = bytes(1960)
    path.write_bytes(content)
    [first, *_] = source(str(path)).partitions()
    with pytest.raises(InputError, match=r"damaged\.parquet"):
        source(str(path)).read(first)


def test_folders_globs_and_fsspec_find_the_same_files_in_order(tmp_path) -> None:
    fsspec = pytest.importorskip("fsspec")
    (tmp_path / "deep").mkdir()
    for name in ("b", "a", "deep/c"):
        write(tmp_path / f"{name}.parquet", url=[f"https://{name}/{row}" for row in range(3)])
    (tmp_path / "_metadata.parquet").write_bytes(b"no table")
    folder = read_all(source(str(tmp_path))).kept
    assert folder["url"].to_pylist()[::3] == ["https://a/0", "https://b/0", "https://deep/c/0"]
    assert read_all(source(f"{tmp_path}/**/[a-c].parquet")).kept.equals(folder)
    assert len(source(f"{tmp_path}/[a-c].parquet").partitions()) == 2
    assert read_all(source(f"file://{tmp_path}/b.parquet")).kept.num_rows == 3
    memory = fsspec.filesystem("memory")
    memory.pipe("/filter-test/rows.parquet", (tmp_path / "a.parquet").read_bytes())
    assert read_all(source("memory://filter-test/*.parquet")).kept.num_rows == 3


def test_partitions_are_named_after_what_they_read(tmp_path) -> None:
    path = write(tmp_path / "rows.parquet", rows_per_group=10, url=[f"https://{row}" for row in range(35)])
    first = source(path, rows_per_partition=20).partitions()
    assert [(partition.start, partition.stop) for partition in first] == [(0, 20), (20, 35)]
    assert first == source(path, rows_per_partition=20).partitions()
    write(tmp_path / "rows.parquet", rows_per_group=10, url=[f"https://x/{row}" for row in range(35)])
    again = source(path, rows_per_partition=20).partitions()
    assert not {partition.name for partition in first} & {partition.name for partition in again}
    assert source(path).fingerprint() == source(str(tmp_path), rows_per_partition=7).fingerprint()
    assert source(path).fingerprint() != source(path, min_width=2).fingerprint()


def test_image_columns_travel_along(tmp_path) -> None:
    image = pa.array([{"bytes": b"jpeg", "path": "a.jpg"}], IMAGE_RECORD.fields.field("image").type)
    path = write(tmp_path / "images.parquet", url=["a"], image=image)
    kept = read_all(source(path)).kept
    assert pc.struct_field(kept["image"], "bytes").to_pylist() == [b"jpeg"]
