"""Sources: bytes come through untouched, every bad row has a reason, and a wrong input fails before any row is read."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pack_samples import edit_row, encoded, image_row, table_of

from pipelines.local_images import LocalImages, LocalImagesConfig
from pipelines.source import Source
from pipelines.sources.edit_pairs_jsonl import EditPairsJsonl, EditPairsJsonlConfig
from pipelines.sources.edit_pairs_parquet import EditPairsParquet, EditPairsParquetConfig
from pipelines.sources.image_records_parquet import ImageRecordsParquet, ImageRecordsParquetConfig
from pipelines.step import StepResult
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError, SchemaError
from schemas.keys import is_key, pair_key
from schemas.outcomes import OUTCOME
from schemas.records import EDIT_PAIR, IMAGE_RECORD, IMAGE_TYPE

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "real_pairs"


def read_all(source: Source) -> StepResult:
    results = [source.read(partition) for partition in source.partitions()]
    return StepResult(
        pa.concat_tables([one.kept for one in results]), pa.concat_tables([one.rejected for one in results])
    )


def write_pairs(folder: Path, count: int = 3) -> list[dict[str, object]]:
    (folder / "img").mkdir(parents=True)
    lines: list[dict[str, object]] = []
    for number in range(count):
        generator = np.random.default_rng(number)
        for role in ("a", "b"):
            (folder / "img" / f"{number}{role}.jpg").write_bytes(encoded(generator, 32, 32, "JPEG"))
        lines.append({"reference": f"img/{number}a.jpg", "target": f"img/{number}b.jpg", "instruction": f"do {number}"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def jsonl(folder: Path, **config: object) -> EditPairsJsonl:
    return EditPairsJsonl(parse_config(EditPairsJsonlConfig, {"path": str(folder), **config}, "test"))


def test_jsonl_pairs_keep_their_bytes_and_order_in_any_partitioning(tmp_path: Path) -> None:
    write_pairs(tmp_path / "d", 5)
    whole = read_all(jsonl(tmp_path / "d", source="mine", licence="CC0"))
    parts = read_all(jsonl(tmp_path / "d", source="mine", licence="CC0", rows_per_partition=2))
    EDIT_PAIR.check(whole.kept)
    assert whole.kept.to_pylist() == parts.kept.to_pylist()
    assert len(jsonl(tmp_path / "d", rows_per_partition=2).partitions()) == 3
    row = whole.kept.to_pylist()[1]
    reference, target = ((tmp_path / f"d/img/1{role}.jpg").read_bytes() for role in "ab")
    assert row["references"] == [{"bytes": reference, "path": "img/1a.jpg"}] and row["target"]["bytes"] == target
    assert row["key"] == pair_key([reference], target, "do 1")
    assert (row["source"], row["licence"]) == ("mine", "CC0")
    # From a sample one finds back to the line that it came from.
    listed = (tmp_path / "d" / "pairs.jsonl").read_bytes()
    name, _, offset = row["source_key"].partition("@")
    assert name == "pairs.jsonl" and json.loads(listed[int(offset) :].splitlines()[0])["instruction"] == "do 1"


def test_copied_data_has_the_same_partitions_and_rows_and_changed_data_another_partition(tmp_path: Path) -> None:
    write_pairs(tmp_path / "d", 4)
    shutil.copytree(tmp_path / "d", tmp_path / "elsewhere" / "e")
    first, second = (jsonl(path, rows_per_partition=2) for path in (tmp_path / "d", tmp_path / "elsewhere" / "e"))
    assert [part.name for part in first.partitions()] == [part.name for part in second.partitions()]
    assert first.fingerprint() == second.fingerprint()
    assert read_all(first).kept.equals(read_all(second).kept)
    before = [part.name for part in first.partitions()]
    text = (tmp_path / "d" / "pairs.jsonl").read_text()
    (tmp_path / "d" / "pairs.jsonl").write_text(text.replace("do 3", "do 4"))
    after = [part.name for part in first.partitions()]
    assert before[0] == after[0] and before[1] != after[1]
    assert pickle.loads(pickle.dumps(first)).partitions() == first.partitions()


def test_every_bad_line_is_one_rejected_row_with_its_reason(tmp_path: Path) -> None:
    good = write_pairs(tmp_path, 2)
    (tmp_path / "img" / "zero.jpg").write_bytes(b"")
    pair = {"reference": "img/0a.jpg", "target": "img/0b.jpg", "instruction": "x"}
    bad: list[tuple[str, bytes]] = [
        ("line_not_json", b"{not json"),
        ("line_not_json", b"\xff\xfe\xfa"),
        ("line_not_object", b"[1, 2]"),
        ("text_not_unicode", json.dumps({**pair, "instruction": "\ud800"}).encode()),
        ("field_missing", json.dumps({**pair, "target": None}).encode()),
        ("field_type", json.dumps({**pair, "references": [1]}).encode()),
        ("field_type", json.dumps({**pair, "target": {"a": 1}}).encode()),
        ("field_type", json.dumps({**pair, "edit_type": 3}).encode()),
        ("instruction_missing", json.dumps({**pair, "instruction": " \n"}).encode()),
        ("instruction_missing", json.dumps({**pair, "instruction": None}).encode()),
        ("image_not_found", json.dumps({**pair, "target": "img/none.jpg"}).encode()),
        ("image_not_found", json.dumps({**pair, "target": "img"}).encode()),
        ("image_not_found", json.dumps({**pair, "target": "a\0b"}).encode()),
        ("image_empty", json.dumps({**pair, "target": "img/zero.jpg"}).encode()),
        ("image_outside", json.dumps({**pair, "reference": "../../etc/passwd"}).encode()),
        ("image_outside", json.dumps({**pair, "reference": "/etc/passwd"}).encode()),
        ("repeated_row", json.dumps(good[0]).encode()),
    ]
    with (tmp_path / "pairs.jsonl").open("ab") as stream:
        stream.write(b"\n  \n" + b"\n".join(line for _, line in bad))
    result = read_all(jsonl(tmp_path))
    assert result.kept["instruction"].to_pylist() == ["do 0", "do 1"]
    OUTCOME.check(result.rejected)
    assert sorted(result.rejected["reason"].to_pylist()) == sorted(reason for reason, _ in bad)
    assert all(is_key(key) for key in result.rejected["key"].to_pylist())
    assert "pairs.jsonl, line 5:" in result.rejected["sentence"][0].as_py()


def test_an_image_above_the_byte_limit_is_rejected_and_outside_is_allowed_on_request(tmp_path: Path) -> None:
    write_pairs(tmp_path / "d", 1)
    shutil.copy(tmp_path / "d/img/0a.jpg", tmp_path / "out.jpg")
    line = {"src": ["../out.jpg"], "target": "img/0b.jpg", "instruction": "x"}
    (tmp_path / "d/pairs.jsonl").write_text(json.dumps(line))
    config = {"columns": {"references": "src"}, "allow_outside": True}
    result = read_all(jsonl(tmp_path / "d", **config))
    assert result.kept["references"].to_pylist()[0][0]["path"] == "out.jpg"
    refused = read_all(jsonl(tmp_path / "d", max_image_bytes=10, **config)).rejected
    assert refused["reason"].to_pylist() == ["image_too_many_bytes"]


def test_wrong_jsonl_inputs_fail_before_any_row_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        jsonl(tmp_path / "none").partitions()
    with pytest.raises(InputError, match=r"without a \.jsonl"):
        jsonl(tmp_path).partitions()
    (tmp_path / "a.jsonl").write_text("\n \n")
    with pytest.raises(InputError, match="holds no line"):
        jsonl(tmp_path).partitions()
    (tmp_path / "a.jsonl").write_text('{"src": "a", "target": "b", "instruction": "c"}\n')
    with pytest.raises(SchemaError, match="references"):
        jsonl(tmp_path).partitions()
    with pytest.raises(ConfigError, match="is no field"):
        jsonl(tmp_path, columns={"referense": "src"})


@pytest.mark.skipif(not REAL.exists(), reason="the real pairs are not here")
def test_the_real_pairs_come_through(tmp_path: Path) -> None:
    source = jsonl(REAL, columns={"references": "src", "target": "tgt", "source": "repo"})
    result = read_all(source)
    lines = [json.loads(line) for line in (REAL / "pairs.jsonl").read_text().splitlines()]
    assert result.kept.num_rows == sum(bool(line["instruction"]) for line in lines)
    assert set(result.rejected["reason"].to_pylist()) <= {"instruction_missing"}
    assert result.kept.num_rows + result.rejected.num_rows == len(lines)


def test_parquet_pairs_equal_whatever_shape_their_image_columns_have(tmp_path: Path) -> None:
    rows = [edit_row(number) for number in (0, 2, 4, 0)]
    table = table_of(rows)
    pq.write_table(table, tmp_path / "struct.parquet", row_group_size=3)
    plain = pa.table(
        {
            "before": pa.array([row["references"][0]["bytes"] for row in rows], pa.large_binary()),
            "after": pa.array([row["target"] for row in rows], IMAGE_TYPE),
            "prompt": [row["instruction"] for row in rows],
            "references": ["not", "these", "other", "ones"],
        }
    )
    pq.write_table(plain, tmp_path / "plain.parquet")
    names = {"references": "before", "target": "after", "instruction": "prompt"}
    results = [
        read_all(EditPairsParquet(EditPairsParquetConfig(paths=(str(tmp_path / file),), columns=columns)))
        for file, columns in (("struct.parquet", {}), ("plain.parquet", names))
    ]
    for result in results:
        assert result.kept["key"].to_pylist()[:3] == [row["key"] for row in rows[:3]]
        assert result.rejected["reason"].to_pylist() == ["repeated_row"]
    assert results[1].kept["source_key"].to_pylist() == [f"plain.parquet#{number}" for number in range(3)]
    assert results[0].kept["mask_status"].to_pylist() == [row["mask_status"] for row in rows[:3]]


def test_bad_parquet_pairs_are_rejected_row_by_row(tmp_path: Path) -> None:
    rows = [
        edit_row(0),
        edit_row(1, references=[]),
        edit_row(2, target=None),
        edit_row(3, instruction="  "),
        edit_row(4, references=[{"bytes": b"", "path": "x"}]),
    ]
    pq.write_table(table_of(rows).select(["references", "target", "instruction"]), tmp_path / "p.parquet")
    result = read_all(EditPairsParquet(EditPairsParquetConfig(paths=(str(tmp_path),))))
    assert result.kept["key"].to_pylist() == [rows[0]["key"]]
    expected = ["references_missing", "image_empty", "instruction_missing", "image_empty"]
    assert result.rejected["reason"].to_pylist() == expected


def test_wrong_parquet_inputs_fail_before_any_row_is_read(tmp_path: Path) -> None:
    def partitions(name: str) -> object:
        return EditPairsParquet(EditPairsParquetConfig(paths=(str(tmp_path / name),))).partitions()

    with pytest.raises(InputError, match="does not exist"):
        partitions("none.parquet")
    (tmp_path / "text.parquet").write_text("hello, I am no Parquet file at all")
    with pytest.raises(InputError, match="no whole Parquet"):
        partitions("text.parquet")
    pq.write_table(table_of([]), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="hold no row"):
        partitions("empty.parquet")
    pq.write_table(pa.table({"target": [1]}), tmp_path / "columns.parquet")
    with pytest.raises(SchemaError, match="references, instruction"):
        partitions("columns.parquet")
    data = (tmp_path / "empty.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[:-5])
    with pytest.raises(InputError, match="no whole Parquet"):
        partitions("cut.parquet")


def test_image_records_keep_their_keys_and_get_missing_ones(tmp_path: Path) -> None:
    rows = [image_row(0), image_row(1, key=None), image_row(2, url=None)]
    pq.write_table(table_of(rows, IMAGE_RECORD.name), tmp_path / "r.parquet")
    result = read_all(ImageRecordsParquet(ImageRecordsParquetConfig(paths=(str(tmp_path / "r.parquet"),))))
    assert result.kept["key"][0].as_py() == rows[0]["key"] and is_key(result.kept["key"][1].as_py())
    assert result.rejected["reason"].to_pylist() == ["url_missing"]


def test_local_images_are_read_or_rejected(tmp_path: Path) -> None:
    data = encoded(np.random.default_rng(0), 32, 32, "JPEG")
    (tmp_path / "a b.jpg").write_bytes(data)
    (tmp_path / "zero.jpg").write_bytes(b"")
    cases: list[tuple[str, str | None]] = [
        ("a b.jpg", None),
        ((tmp_path / "a b.jpg").as_uri(), None),
        (str(tmp_path / "a b.jpg"), None),
        ("zero.jpg", "image_empty"),
        ("none.jpg", "image_not_found"),
        ("../x.jpg", "image_outside"),
        ("https://example.org/a.jpg", "url_not_local"),
        ("file://host/a.jpg", "url_not_local"),
        ("http://[bad", "url_not_local"),
        ("", "url_missing"),
    ]
    keys = [f"{number:032x}" for number in range(len(cases))]
    table = pa.table({"key": keys, "url": [url for url, _ in cases]})
    result = LocalImages(LocalImagesConfig(root=str(tmp_path)))(table)
    assert result.kept["image"].to_pylist() == [{"bytes": data, "path": "a b.jpg"}] * 3
    assert result.rejected["reason"].to_pylist() == [reason for _, reason in cases if reason]
    small = LocalImages(LocalImagesConfig(max_bytes=10))
    rejected = small(table.slice(1, 4)).rejected["reason"].to_pylist()
    assert rejected == ["image_too_many_bytes"] * 2 + ["path_relative"] * 2
    with pytest.raises(InputError):
        LocalImages(LocalImagesConfig(root=str(tmp_path / "none"))).preflight()
