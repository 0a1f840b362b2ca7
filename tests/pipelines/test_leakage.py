"""No training row that shows a benchmark's image goes on, and each names what it shows."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.deduplicate.hash_step import IMAGE_HASHES
from pipelines.leakage import Leakage, LeakageConfig
from schemas.config import parse_config
from schemas.errors import InputError, SchemaError

A, B, C = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0xAAAA5555F0F01234
SCHEMA = pa.schema([pa.field("key", pa.string()), IMAGE_HASHES])


def rows(*images: list[tuple[int | None, str]], base: int = 0) -> pa.Table:
    values = [
        {
            "key": f"{base + number:032x}",
            "image_hashes": [
                {"column": "image", "content": hashlib.sha256(file.encode()).digest()[:16], "perceptual": value}
                for value, file in entries
            ],
        }
        for number, entries in enumerate(images)
    ]
    return pa.Table.from_pylist(values, schema=SCHEMA)


def leakage(path: Path, **values: Any) -> Leakage:
    return Leakage(parse_config(LeakageConfig, {"benchmark": str(path), **values}, "leakage"))


def test_any_image_near_any_of_the_benchmark_leaks(tmp_path: Path) -> None:
    pq.write_table(rows([(A, "a"), (None, "white")], [(B, "b")], base=0xF0), tmp_path / "bench.parquet")
    train = rows(
        [(C, "c"), (A ^ 0b1111, "a, resized")],
        [(C, "c"), (A ^ 0b11111, "another")],
        [(B, "b")],
        [(None, "white"), (C, "c")],
        [(None, "black")],
        [],
    )
    step = leakage(tmp_path / "bench.parquet")
    travelled = pickle.loads(pickle.dumps(step))
    result = travelled(train)
    assert result.kept["key"].to_pylist() == [f"{number:032x}" for number in (1, 4, 5)]
    assert set(result.rejected["reason"].to_pylist()) == {"benchmark_leakage"}
    evidence = [json.loads(text) for text in result.rejected["evidence"].to_pylist()]
    assert [(one["benchmark_key"], one["distance"], one["same_file"]) for one in evidence] == [
        (f"{0xF0:032x}", 4, False),
        (f"{0xF1:032x}", 0, True),
        (f"{0xF0:032x}", 0, True),
    ]
    assert all(
        one["benchmark_key"] in text
        for one, text in zip(evidence, result.rejected["sentence"].to_pylist(), strict=True)
    )
    assert leakage(tmp_path / "bench.parquet", radius=5)(train).kept.num_rows == 2


def test_identity_follows_the_benchmark_and_not_its_files(tmp_path: Path) -> None:
    whole = rows([(A, "a")], [(B, "b")])
    pq.write_table(whole, tmp_path / "one.parquet")
    (tmp_path / "two").mkdir()
    pq.write_table(whole.slice(1), tmp_path / "two" / "1.parquet")
    pq.write_table(whole.slice(0, 1), tmp_path / "two" / "2.parquet")
    assert leakage(tmp_path / "one.parquet").fingerprint() == leakage(tmp_path / "two").fingerprint()
    pq.write_table(rows([(A, "a")], [(B ^ 1, "b")]), tmp_path / "other.parquet")
    assert leakage(tmp_path / "other.parquet").fingerprint() != leakage(tmp_path / "one.parquet").fingerprint()


def test_a_benchmark_without_hashes_or_images_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["0" * 32]}), tmp_path / "bare.parquet")
    with pytest.raises(SchemaError, match="the column 'image_hashes' is missing"):
        leakage(tmp_path / "bare.parquet").fingerprint()
    pq.write_table(rows([]), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="holds no image"):
        leakage(tmp_path / "empty.parquet").fingerprint()
    with pytest.raises(InputError):
        leakage(tmp_path / "none.parquet").fingerprint()
