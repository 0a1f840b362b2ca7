"""Packed shards in the hands of others: plain webdataset, datasets, DuckDB."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from pack_samples import edit_row, loaders_of
from PIL import Image

from pipelines.pack import PackConfig, pack

COUNT = 7


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("readers") / "shards"
    pack(loaders_of(COUNT, 3), PackConfig(samples_per_shard=4, row_group_rows=2), out)
    return out


def test_plain_webdataset_reads_the_tars(packed: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted((packed / "webdataset").glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert len(samples) == COUNT
    for number, sample in enumerate(samples):
        row = edit_row(number)
        assert sample["__key__"] == row["key"]
        assert sample["reference.jpg"] == row["references"][0]["bytes"]
        assert sample["mask.png"] == row["mask"]["bytes"]
        assert json.loads(sample["json"])["instruction"] == row["instruction"]
    assert "reference1.jpg" in samples[1] and "reference1.jpg" not in samples[0]


@pytest.mark.slow
def test_datasets_shows_the_images_of_the_parquet_shards(packed: Path, tmp_path: Path) -> None:
    script = """
import sys, json, datasets
folder, cache = sys.argv[1:]
table = datasets.load_dataset("parquet", data_files=folder + "/parquet/*.parquet", cache_dir=cache, split="train")
row = table[1]
print(json.dumps({"rows": len(table), "features": {name: str(table.features[name]) for name in table.features},
    "sizes": [row["target"].size, row["mask"].size, *(image.size for image in row["references"])],
    "mode": row["mask"].mode, "instruction": row["instruction"], "scores": row["judge_scores"]}))
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    run = subprocess.run(
        [sys.executable, "-c", script, str(packed), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    row = edit_row(1)
    assert found["rows"] == COUNT and found["instruction"] == row["instruction"]
    assert found["sizes"] == [[row["width"], row["height"]]] * 4 and found["mode"] == "1"
    assert all(found["features"][name].startswith("Image(") for name in ("target", "mask"))
    assert found["features"]["references"].startswith("List(Image(")
    assert [score["key"] for score in found["scores"]] == ["fidelity", "success"]


def test_duckdb_queries_the_shards_and_the_index(packed: Path) -> None:
    keys = duckdb.sql(f"select key from '{packed}/parquet/*.parquet' order by filename, file_row_number").fetchall()
    assert [key for (key,) in keys] == [edit_row(number)["key"] for number in range(COUNT)]
    [(joined,)] = duckdb.sql(
        f"select count(*) from '{packed}/index.parquet' i join '{packed}/parquet/*.parquet' s using (key)"
        " where i.edited_fraction = s.edited_fraction and i.mask_status = s.mask_status"
    ).fetchall()
    assert joined == COUNT
    [(data,)] = duckdb.sql(f"select target.bytes from '{packed}/parquet/edits-000000.parquet' limit 1").fetchall()
    assert Image.open(io.BytesIO(data)).size == (edit_row(0)["width"], edit_row(0)["height"])
