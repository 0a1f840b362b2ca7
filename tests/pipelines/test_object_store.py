"""Parquet on an object store: what the filter and a source of pairs make of it is what they make of the local files.

S3's protocol on loopback, spoken by PyArrow's own client; and a file system of fsspec.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from s3_server import BUCKET, serve_s3

from pipelines.metadata_filter import LaionParquet, MetadataFilterConfig
from pipelines.parquet_files import find_files
from pipelines.source import Source
from pipelines.sources.edit_pairs_parquet import EditPairsParquet, EditPairsParquetConfig
from pipelines.step import StepResult
from schemas.config import parse_config
from schemas.errors import InputError

ROWS = 3_000


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`laion/` of two files and `pairs/` of one."""
    folder = tmp_path_factory.mktemp("store")
    generator = np.random.default_rng(0)
    for part in range(2):
        (folder / "laion").mkdir(exist_ok=True)
        table = pa.table(
            {
                "URL": [f"https://example.org/{part}/{row}.jpg" for row in range(ROWS)],
                "TEXT": [f"picture {row}" for row in range(ROWS)],
                "WIDTH": generator.integers(100, 2000, ROWS),
                "HEIGHT": generator.integers(100, 2000, ROWS),
                "AESTHETIC_SCORE": generator.normal(5, 1, ROWS).clip(1, 10).astype(np.float32),
            }
        )
        pq.write_table(table, folder / "laion" / f"part-{part}.parquet", row_group_size=500)
    (folder / "pairs").mkdir()
    images = [_png(number) for number in range(6)]
    pairs = {"references": images[:3], "target": images[3:], "instruction": ["paint it"] * 3}
    pq.write_table(pa.table(pairs), folder / "pairs" / "pairs.parquet", row_group_size=2)
    return folder


@pytest.fixture(scope="module")
def bucket(local: Path) -> Iterator[str]:
    """`s3://data`, with the local files in it; the server's address stands in the environment."""
    with serve_s3(local) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "loopback")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "loopback")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        yield f"s3://{BUCKET}"


def filtered(*paths: str) -> LaionParquet:
    values = {"paths": paths, "min_aesthetic": 5.5, "min_side": 400, "max_aspect": 2.0, "rows_per_partition": 1000}
    return LaionParquet(parse_config(MetadataFilterConfig, values, "filter"))


def pairs(path: str) -> EditPairsParquet:
    return EditPairsParquet(parse_config(EditPairsParquetConfig, {"paths": [path], "rows_per_partition": 2}, "pairs"))


def whole(source: Source) -> tuple[int, pa.Table, dict[str, int]]:
    results: list[StepResult] = [source.read(partition) for partition in source.partitions()]
    counted: dict[str, int] = {}
    for result in results:
        for reason, count in result.counted.items():
            counted[reason] = counted.get(reason, 0) + count
        for reason in result.rejected["reason"].to_pylist():
            counted[reason] = counted.get(reason, 0) + 1
    return len(results), pa.concat_tables([result.kept for result in results]), counted


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_over_s3_as_from_local_files(local: Path, bucket: str) -> None:
    here = whole(filtered(f"{local}/laion"))
    assert here[2] and here[1].num_rows
    for place in (f"{bucket}/laion", f"{bucket}/laion/*.parquet", f"{bucket}/lai*/part-?.parquet"):
        parts, kept, counted = whole(filtered(place))
        assert (parts, counted) == (here[0], here[2]) and kept.equals(here[1])
    assert _images(pairs(f"{bucket}/pairs/pairs.parquet")) == _images(pairs(f"{local}/pairs"))
    with pytest.raises(InputError, match="does not exist"):
        find_files([f"{bucket}/laion/part-9.parquet"])
    with pytest.raises(InputError, match="paths"):
        find_files(["s3://no-such-bucket/laion"])


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_endpoint_in_the_address_goes_with_every_file(
    local: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme, _, endpoint = os.environ["AWS_ENDPOINT_URL"].partition("://")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = f"?endpoint_override={endpoint}&scheme={scheme}"
    for place in ("laion", "laion/*.parquet"):
        files = find_files([f"{bucket}/{place}{options}"])
        assert [file.path for file in files] == [f"{bucket}/laion/part-{part}.parquet{options}" for part in range(2)]
        assert whole(filtered(f"{bucket}/{place}{options}"))[2] == whole(filtered(f"{local}/laion"))[2]


def test_over_fsspec_as_from_local_files(local: Path) -> None:
    store = fsspec.filesystem("memory")
    store.put(str(local / "laion"), "/store/laion", recursive=True)
    try:
        here = whole(filtered(f"{local}/laion"))
        for place in ("memory://store/laion", "memory://store/laion/*.parquet"):
            parts, kept, counted = whole(filtered(place))
            assert (parts, counted) == (here[0], here[2]) and kept.equals(here[1])
        assert whole(filtered(f"local://{local}/laion"))[2] == here[2]
    finally:
        store.rm("/store", recursive=True)


def _images(source: Source) -> list[object]:
    _, kept, _ = whole(source)
    return [(row["key"], row["target"]["bytes"], row["instruction"]) for row in kept.to_pylist()]


def _png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((32, 40, 3), 20 * number, np.uint8)).save(stream, "PNG")
    return stream.getvalue()
