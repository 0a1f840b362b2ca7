"""Packing: every sample is in the shards once, with its original bytes; the same samples give the same bytes."""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pack_samples import RowsLoader, TableLoader, edit_row, image_row, loaders_of, table_of, tree

from pipelines.pack import PackConfig, check_could_be_ours, pack
from pipelines.pack.folder import LOCK
from pipelines.shards.read import open_packed
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError, OutputError, SchemaError, SchemaVersionError
from schemas.folders import locked
from schemas.images import encode_mask
from schemas.layout import INDEX
from schemas.manifest import read_manifest
from schemas.outcomes import OUTCOME
from schemas.record import VERSION_KEY
from schemas.records import EDIT_SAMPLE, IMAGE_RECORD

SMALL = PackConfig(samples_per_shard=4, row_group_rows=3)


def as_record(row: dict[str, Any], record: str = EDIT_SAMPLE.name) -> dict[str, Any]:
    return table_of([row], record).to_pylist()[0]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "shards"
    pack(loaders_of(11, 3), SMALL, out)
    return out


def test_a_packed_folder_holds_exactly_what_its_manifest_lists(packed: Path) -> None:
    manifest = read_manifest(packed)
    listed = {entry.name: entry.bytes for entry in (*manifest.shards, manifest.index)}
    beside = ("manifest.json", "README.md")
    assert {name: len(data) for name, data in tree(packed).items() if name not in beside} == listed
    assert (manifest.rows_in, manifest.kept, manifest.rejected) == (11, 11, {})
    assert [entry.samples for entry in manifest.shards if entry.format == "webdataset"] == [4, 4, 3]
    assert not any(path.name.startswith(".") for path in packed.rglob("*"))


def test_samples_come_back_as_they_went_in_from_either_format(packed: Path, tmp_path: Path) -> None:
    expected = [as_record(edit_row(number)) for number in range(11)]
    folder = open_packed(packed)
    assert list(folder.samples()) == expected
    assert folder.sample(expected[6]["key"]) == expected[6]
    pack(loaders_of(11, 3), SMALL.model_copy(update={"formats": ("parquet",)}), tmp_path / "p")
    parquet_only = open_packed(tmp_path / "p")
    assert list(parquet_only.samples()) == expected
    assert [parquet_only.sample_at(position) for position in range(11)] == expected
    with pytest.raises(InputError, match="is not in"):
        folder.sample("0" * 32)


def test_the_index_gives_readable_tars_and_parquet_rows(packed: Path) -> None:
    index = open_packed(packed).index
    INDEX.check(index)
    for number, row in enumerate(index.to_pylist()):
        data = (packed / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = tar.getnames()
        sample = edit_row(number)
        assert all(name.startswith(f"{row['key']}.") for name in names) and row["key"] == sample["key"]
        suffixes = [name.partition(".")[2] for name in names]
        references = ["reference.jpg", "reference1.jpg"][: len(sample["references"])]
        assert suffixes == [*references, "target.png" if number % 4 else "target.webp", "mask.png", "json"]
        table = pq.read_table(packed / row["parquet_shard"], columns=["key"])
        assert table["key"][row["parquet_row"]].as_py() == row["key"]
        assert (row["width"], row["height"]) == (sample["width"], sample["height"])
        assert row["edited_fraction"] == sample["edited_fraction"]


def test_plain_tarfile_sees_no_times_and_no_owners(packed: Path) -> None:
    with tarfile.open(packed / "webdataset" / "edits-000000.tar") as tar:
        members = tar.getmembers()
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
        (0, 0, 0, "", 0o644)
    }


def test_parquet_row_groups_are_capped(packed: Path, tmp_path: Path) -> None:
    groups = pq.ParquetFile(packed / "parquet" / "edits-000000.parquet").metadata
    assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == [3, 1]
    pack(loaders_of(4, 4), PackConfig(row_group_bytes=1), tmp_path / "b")
    assert pq.ParquetFile(tmp_path / "b" / "parquet" / "edits-000000.parquet").num_row_groups == 4


def test_the_bytes_depend_on_samples_and_config_alone(packed: Path, tmp_path: Path) -> None:
    def backwards(function: Callable[[Any], Any], items: Sequence[Any], /) -> Iterable[Any]:
        return reversed([function(item) for item in reversed(items)])

    pack(loaders_of(11, 11), SMALL, tmp_path / "a", run_map=backwards)
    assert tree(tmp_path / "a") == tree(packed)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pack(loaders_of(11, 2), SMALL, tmp_path / "b", run_map=pool.map)
    assert tree(tmp_path / "b") == tree(packed)


def test_packing_again_does_nothing_and_says_so(packed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in packed.rglob("*")}
    again = pack(loaders_of(11, 3), SMALL, packed)
    assert again.already_packed and again.manifest == read_manifest(packed)
    assert {path: path.stat().st_mtime_ns for path in packed.rglob("*")} == before


def test_another_input_or_config_meets_a_clear_error_or_overwrites(tmp_path: Path) -> None:
    out = tmp_path / "o"
    pack(loaders_of(9, 3), SMALL, out)
    before = tree(out)
    changed = edit_row(0, instruction="another")
    for loaders, config in (
        (loaders_of(8, 3), SMALL),
        (loaders_of(9, 3), PackConfig(samples_per_shard=5)),
        ([TableLoader(table_of([changed])), RowsLoader(1, 9)], SMALL),
    ):
        with pytest.raises(InputError, match="--overwrite"):
            pack(loaders, config, out)
        assert tree(out) == before
    pack(loaders_of(3, 3), SMALL, out, overwrite=True)
    pack(loaders_of(3, 3), SMALL, tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        pack(loaders_of(9, 3), SMALL, out, overwrite=True)
    assert (out / "notes.txt").exists()


def test_a_lost_shard_or_manifest_is_made_again(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    pack(loaders_of(11, 3), SMALL, out)
    (out / "webdataset" / "edits-000001.tar").unlink()
    assert not pack(loaders_of(11, 3), SMALL, out).already_packed
    assert tree(out) == tree(packed)
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace('"rows_in": 11', '"rows_in": 12'))
    assert not pack(loaders_of(11, 3), SMALL, out).already_packed
    assert tree(out) == tree(packed)


def test_every_unfit_row_is_rejected_with_a_reason_and_counts_add_up(tmp_path: Path) -> None:
    good = edit_row(0)
    target: Any = good["target"]
    wrong_size = encode_mask(np.zeros((8, 8), np.bool_))
    cases: list[tuple[str, dict[str, Any]]] = [
        ("key_invalid", edit_row(1, key="a.b")),
        ("target_missing", edit_row(2, target=None)),
        ("instruction_missing", edit_row(3, instruction=None)),
        ("references_missing", edit_row(4, references=[])),
        ("image_missing", edit_row(6, references=[{"bytes": b"", "path": None}])),
        ("image_format_unknown", edit_row(7, target={"bytes": b"hello", "path": None})),
        ("image_truncated", edit_row(8, target={"bytes": target["bytes"][:40], "path": None})),
        ("target_size", edit_row(9, width=63)),
        ("mask_size", edit_row(10, mask={"bytes": wrong_size, "path": None})),
        ("mask_unreadable", edit_row(11, mask={"bytes": b"\x89PNG no", "path": None})),
        ("mask_unreadable", edit_row(12, mask={"bytes": edit_row(12)["mask"]["bytes"][:50], "path": None})),
        ("mask_missing", edit_row(13, mask={"bytes": None, "path": None})),
        ("mask_status_unchanged", edit_row(14, mask_status="unchanged")),
        ("edited_fraction_range", edit_row(16, edited_fraction=1.5)),
        ("duplicate_key", good),
    ]
    loaders = [TableLoader(table_of([good])), TableLoader(table_of([row for _, row in cases]))]
    result = pack(loaders, SMALL, tmp_path / "o")
    OUTCOME.check(result.rejected)
    found = dict(zip(result.rejected["key"].to_pylist(), result.rejected["reason"].to_pylist(), strict=True))
    assert found == {row["key"]: reason for reason, row in cases}
    assert result.manifest.rows_in == 16 == result.manifest.kept + sum(result.manifest.rejected.values())


def test_all_rows_rejected_is_an_empty_packed_folder_and_no_row_an_error(tmp_path: Path) -> None:
    result = pack([TableLoader(table_of([edit_row(1, key="x")]))], SMALL, tmp_path / "o")
    assert (result.manifest.kept, result.manifest.shards) == (0, [])
    with pytest.raises(InputError, match="has no rows"):
        pack([TableLoader(table_of([]))], SMALL, tmp_path / "p")


def test_wrong_tables_fail_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "o"
    good = table_of([edit_row(1)])
    newer = good.replace_schema_metadata({b"editmill.schema": b"EditSample", VERSION_KEY: b"99"})
    for table, kind in (
        (good.drop_columns(["mask", "width"]), SchemaError),
        (good.set_column(0, "key", pa.nulls(1, pa.string())), SchemaError),
        (good.set_column(good.column_names.index("target"), "target", [["text"]]), SchemaError),
        (newer, SchemaVersionError),
    ):
        with pytest.raises(kind):
            pack([TableLoader(table)], SMALL, out)
        assert not out.exists()


def test_image_shards_follow_img2dataset(tmp_path: Path) -> None:
    config = PackConfig(record="images", samples_per_shard=3)
    rows = [*(image_row(number) for number in range(5)), image_row(6, caption=None), image_row(8, image=None)]
    result = pack([TableLoader(table_of(rows, IMAGE_RECORD.name))], config, tmp_path)
    assert result.manifest.rejected == {"caption_missing": 1, "image_missing": 1}
    folder = open_packed(tmp_path)
    assert list(folder.samples()) == [as_record(row, IMAGE_RECORD.name) for row in rows[:5]]
    with tarfile.open(tmp_path / "webdataset" / "images-000000.tar") as tar:
        names = [name.partition(".")[2] for name in tar.getnames()]
        texts = [tar.extractfile(name).read().decode() for name in tar.getnames() if name.endswith(".txt")]
    assert names == ["png", "txt", "json", "jpg", "txt", "json", "png", "txt", "json"]
    assert texts == ["original 0", "long 1", "original 2"]
    assert folder.index["mask_status"].null_count == 5
    assert json.loads((tmp_path / "manifest.json").read_text())["record"] == "ImageRecord"


def test_a_config_out_of_range_is_named() -> None:
    for values, rule in (
        ({"samples_per_shard": 0}, "samples_per_shard"),
        ({"prefix": "a.b"}, "prefix"),
        ({"formats": []}, "formats"),
        ({"formats": ["zip"]}, "formats"),
        ({"sample_per_shard": 1}, "Did you mean 'samples_per_shard'"),
    ):
        with pytest.raises(ConfigError, match=rule):
            parse_config(PackConfig, values, "pack")


def test_two_packings_do_not_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "shards"
    with (
        locked(out, LOCK, "packed folder", "another packing"),
        pytest.raises(InputError, match="another packing works"),
    ):
        pack(loaders_of(5, 2), SMALL, out)
    pack(loaders_of(5, 2), SMALL, out)
    former = tree(out)
    with pytest.raises(InputError, match="shards of other samples"):
        pack(loaders_of(6, 2), SMALL, out)
    assert tree(out) == former


def test_a_disk_too_small_for_the_shards_is_told_before_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "shards"
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10_000))
    with pytest.raises(OutputError, match="the shards need"):
        pack(loaders_of(5, 2), SMALL, out)
    assert not list(out.rglob("*.tar"))
    monkeypatch.undo()
    tars = SMALL.model_copy(update={"formats": ("webdataset",)})
    check_could_be_ours(out, tars, [])
    assert pack(loaders_of(5, 2), tars, out).manifest.kept == 5, "nothing stands in the way of a smaller packing"
    with pytest.raises(InputError, match="packed with another config"):
        check_could_be_ours(out, SMALL, [])
