"""What img2dataset wrote is read as it lies there: every row that it tried is kept with its image, or has a reason."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hostile_server import jpeg

from pipelines.source import Partition
from pipelines.sources.img2dataset import Img2dataset, Img2datasetConfig
from pipelines.step import StepResult
from schemas.errors import EditmillError, InputError, SchemaError
from schemas.records import IMAGE_RECORD

ROWS = 12


def meta(number: int, shard: int) -> dict[str, Any]:
    """One row of the Parquet, and the .json member, as img2dataset writes them."""
    status, message = "success", None
    if number % 5 == 3:
        status, message = "failed_to_download", "HTTP Error 404: Not Found"
    if number == 7:
        status, message = "failed_to_resize", "image decoding error"
    good = status == "success"
    return {
        "url": f"http://h/{shard}/{number}.jpg",
        "caption": f"caption {number}",
        "similarity": 0.25 + number / 100,
        "key": f"{shard:05d}{number:04d}",
        "status": status,
        "error_message": message,
        "width": 64 if good else None,
        "height": 64 if good else None,
        "original_width": 640 if good else None,
        "original_height": 640 if good else None,
        "exif": "{}" if good else None,
        "sha256": hashlib.sha256(b"as downloaded").hexdigest() if good else None,
    }


def write_shard(folder: Path, shard: int, rows: int = ROWS) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    metas = [meta(number, shard) for number in range(rows)]
    with webdataset.TarWriter(str(folder / f"{shard:05d}.tar")) as writer:
        for number, row in enumerate(metas):
            if row["status"] == "success":
                members = {"jpg": jpeg(number), "txt": row["caption"], "json": json.dumps(row, indent=4).encode()}
                writer.write({"__key__": row["key"], **members})
    pq.write_table(pa.Table.from_pylist(metas), folder / f"{shard:05d}.parquet", row_group_size=100)
    (folder / f"{shard:05d}_stats.json").write_text("{}")
    return metas


def source_of(folder: Path, **changes: Any) -> Img2dataset:
    return Img2dataset(Img2datasetConfig(path=str(folder), **changes))


def read_all(source: Img2dataset) -> StepResult:
    results = [source.read(partition) for partition in source.partitions()]
    return StepResult(
        pa.concat_tables([result.kept for result in results]), pa.concat_tables([result.rejected for result in results])
    )


def test_rows_come_with_their_images_and_the_rest_with_reasons(tmp_path: Path) -> None:
    for shard in range(2):
        write_shard(tmp_path, shard)
    source = source_of(tmp_path, rows_per_partition=5)
    partitions = source.partitions()
    assert [(p.start, p.stop) for p in partitions] == [(0, 5), (5, 10), (10, 12)] * 2
    result = read_all(source)
    assert result.kept.num_rows + result.rejected.num_rows == 2 * ROWS
    IMAGE_RECORD.check(result.kept)
    row = result.kept.to_pylist()[1]
    assert row["image"] == {"bytes": jpeg(1), "path": "000000001.jpg"} and row["source_key"] == "000000001"
    assert (row["url"], row["caption"], row["width"]) == ("http://h/0/1.jpg", "caption 1", 64)
    assert row["similarity"] == pytest.approx(0.26) and row["sha256"] == hashlib.sha256(jpeg(1)).hexdigest()
    rejected = result.rejected.to_pylist()
    assert [one["reason"] for one in rejected].count("img2dataset_failed_to_download") == 4
    assert [one["reason"] for one in rejected].count("img2dataset_failed_to_resize") == 2
    assert "404" in rejected[0]["sentence"] and "00000.parquet, row 3" in rejected[0]["sentence"]


def test_copied_data_has_the_same_partitions_and_a_changed_tar_others(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", 0)
    former = source_of(tmp_path / "a").partitions()
    (tmp_path / "a").rename(tmp_path / "b")
    assert [p.name for p in source_of(tmp_path / "b").partitions()] == [p.name for p in former]
    os.utime(tmp_path / "b" / "00000.tar", ns=(1, 1))
    assert source_of(tmp_path / "b").partitions()[0].name != former[0].name


def test_what_the_tar_lacks_is_told(tmp_path: Path) -> None:
    write_shard(tmp_path, 0)
    whole = (tmp_path / "00000.tar").read_bytes()
    kept = []
    for size in (len(whole), len(whole) // 2, 700, 0):
        (tmp_path / "00000.tar").write_bytes(whole[:size])
        result = read_all(source_of(tmp_path))
        assert result.kept.num_rows + result.rejected.num_rows == ROWS
        reasons = result.rejected["reason"].to_pylist()
        assert reasons.count("image_not_found") == 9 - result.kept.num_rows
        assert all(row["image"]["bytes"] == jpeg(int(row["source_key"][-4:])) for row in result.kept.to_pylist())
        kept.append(result.kept.num_rows)
    assert kept[0] == 9 > kept[1] > kept[2] == kept[3] == 0
    (tmp_path / "00000.tar").unlink()
    assert read_all(source_of(tmp_path)).kept.num_rows == 0


def test_damaged_files_are_an_error_or_reasons(tmp_path: Path) -> None:
    write_shard(tmp_path, 0)
    whole = {name: (tmp_path / name).read_bytes() for name in ("00000.parquet", "00000.tar")}
    draw = random.Random(3)
    for number in range(80):
        name = draw.choice(list(whole))
        data = bytearray(whole[name])
        for _ in range(draw.choice((1, 5, 50))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / name).write_bytes(data[: draw.randrange(len(data))] if number % 4 == 0 else data)
        try:
            result = read_all(source_of(tmp_path))
        except EditmillError:
            assert name == "00000.parquet"
        else:
            assert result.kept.num_rows + result.rejected.num_rows == ROWS
        (tmp_path / name).write_bytes(whole[name])


def test_other_image_formats_and_large_members(tmp_path: Path) -> None:
    metas = write_shard(tmp_path, 0, rows=3)
    with tarfile.open(tmp_path / "00000.tar", "w") as archive:
        for row, extension, data in zip(metas, ("webp", "png", "jpg"), (b"x" * 10, b"", b"x" * 99), strict=True):
            for name, content in (("json", b"{}"), (extension, data)):
                info = tarfile.TarInfo(f"{row['key']}.{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    result = read_all(source_of(tmp_path, max_image_bytes=50))
    assert [row["image"]["path"] for row in result.kept.to_pylist()] == ["000000000.webp"]
    assert result.rejected["reason"].to_pylist() == ["image_empty", "image_too_many_bytes"]


def test_unfinished_shards_stop_or_are_left_out(tmp_path: Path) -> None:
    for shard in range(3):
        write_shard(tmp_path, shard)
    (tmp_path / "00001.parquet").unlink()
    with pytest.raises(InputError, match=r"00001\.tar.*did not finish"):
        source_of(tmp_path).partitions()
    (tmp_path / "00001.parquet").write_bytes(b"PAR1 broken off")
    with pytest.raises(InputError, match=r"00001\.parquet.*did not finish"):
        source_of(tmp_path).partitions()
    assert read_all(source_of(tmp_path, skip_unfinished=True)).kept.num_rows == 18


def test_something_else_is_said_before_a_row_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        source_of(tmp_path / "none").partitions()
    with pytest.raises(InputError, match=r"holds no \.parquet"):
        source_of(tmp_path).partitions()
    pq.write_table(pa.table({"url": ["http://h/x"]}), tmp_path / "0.parquet")
    with pytest.raises(SchemaError, match="img2dataset's column 'key'"):
        source_of(tmp_path).partitions()


def test_rows_without_caption_or_address(tmp_path: Path) -> None:
    metas = write_shard(tmp_path, 0, 3)
    metas[1]["url"] = None
    table = pa.Table.from_pylist([*metas, metas[0]]).drop_columns(["caption", "sha256", "exif"])
    pq.write_table(table, tmp_path / "00000.parquet")
    [partition] = source_of(tmp_path).partitions()
    assert isinstance(partition, Partition)
    result = source_of(tmp_path).read(partition)
    assert result.kept.num_rows == 2 and result.kept["caption"].null_count == 2
    assert result.rejected["reason"].to_pylist() == ["url_missing", "repeated_row"]
