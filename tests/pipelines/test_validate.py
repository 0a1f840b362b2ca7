"""Validation: a whole folder has no fault; every kind of damage is found, and several at once are all told."""

from __future__ import annotations

import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pack_samples import loaders_of
from PIL import Image

from pipelines.pack import PackConfig, pack
from pipelines.shards.faults import Fault
from pipelines.shards.read import open_packed
from pipelines.shards.validate import validate
from schemas.atomic import sha256_of
from schemas.errors import InputError, SchemaVersionError, ShardError
from schemas.manifest import manifest_checksum

TAR = "webdataset/edits-000001.tar"
PARQUET = "parquet/edits-000001.parquet"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound") / "shards"
    pack(loaders_of(8, 3), PackConfig(samples_per_shard=3, row_group_rows=2), out)
    return out


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "shards"))


def told(faults: list[Fault]) -> set[tuple[str, str]]:
    return {(fault.file, str(fault.kind)) for fault in faults}


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps({**values, "checksum": manifest_checksum(values)}))


def list_as_it_is(folder: Path) -> None:
    """Make the manifest agree with the files, so that only a look inside can find what is wrong."""

    def change(values: dict[str, Any]) -> None:
        for entry in (*values["shards"], values["index"]):
            path = folder / entry["name"]
            entry.update(bytes=path.stat().st_size, sha256=sha256_of(path))

    change_manifest(folder, change)


@pytest.mark.parametrize("formats", [("webdataset",), ("parquet",), ("webdataset", "parquet")])
def test_a_sound_folder_has_no_fault(tmp_path: Path, formats: tuple[str, ...]) -> None:
    for record in ("edits", "images"):
        out = tmp_path / record
        pack(loaders_of(4, 2, record), PackConfig(record=record, formats=formats, samples_per_shard=3), out)
        assert validate(out) == []
        assert validate(out, deep=False) == []


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_anywhere_is_found(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = chance.choice([folder / TAR, folder / PARQUET, folder / "index.parquet"])
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    name = path.relative_to(folder).as_posix()
    assert (name, "hash") in told(validate(folder)) and (name, "hash") in told(validate(folder, deep=False))


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_never_ends_in_a_traceback_even_where_the_manifest_agrees(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = chance.choice([folder / TAR, folder / PARQUET, folder / "index.parquet"])
    data = bytearray(path.read_bytes())
    # The ends of these files are where their structure is; most of the rest is pixels.
    data[-chance.randrange(1, 6000) % len(data)] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    list_as_it_is(folder)
    for fault in validate(folder):
        assert fault.sentence.encode()


def test_a_changed_manifest_is_found(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"prefix": "edits"', '"prefix": "edit5"'))
    assert told(validate(folder)) == {("manifest.json", "hash")}


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_off_file_is_found(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = chance.choice([folder / TAR, folder / PARQUET, folder / "index.parquet"])
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])
    assert (path.relative_to(folder).as_posix(), "size") in told(validate(folder))


def test_many_faults_are_all_told(folder: Path) -> None:
    (folder / "webdataset/edits-000000.tar").unlink()
    data = (folder / TAR).read_bytes()
    (folder / TAR).write_bytes(data[: len(data) // 2])
    (folder / "parquet/edits-000000.parquet").write_bytes(b"not a table")
    shutil.copy(folder / PARQUET, folder / "parquet/edits-000009.parquet")
    (folder / "webdataset/.edits-000002.tar.7.partial").write_bytes(b"")
    (folder / ".work").mkdir()
    (folder / ".work/job.json").write_text("{}")
    assert told(validate(folder)) == {
        ("webdataset/edits-000000.tar", "missing"),
        (TAR, "size"),
        (TAR, "damaged"),
        ("parquet/edits-000000.parquet", "size"),
        ("parquet/edits-000000.parquet", "damaged"),
        ("parquet/edits-000009.parquet", "unlisted"),
        ("webdataset/.edits-000002.tar.7.partial", "unfinished"),
        (".work/job.json", "unfinished"),
    }


def test_a_tar_cut_between_samples_is_found_even_where_the_manifest_agrees(folder: Path) -> None:
    row = open_packed(folder).index.to_pylist()[4]
    (folder / TAR).write_bytes((folder / TAR).read_bytes()[: row["offset"] + row["size"]])
    list_as_it_is(folder)
    assert told(validate(folder)) == {(TAR, "damaged")}
    with pytest.raises(ShardError, match="cut off"):
        list(open_packed(folder).samples())


def test_an_index_that_does_not_match_is_found(folder: Path) -> None:
    index = pq.read_table(folder / "index.parquet")
    offsets = index["offset"].to_pylist()
    offsets[4] += 512
    shards = index["shard"].to_pylist()
    shards[0] = "webdataset/other.tar"
    index = index.set_column(index.column_names.index("offset"), index.schema.field("offset"), [offsets])
    index = index.set_column(index.column_names.index("shard"), index.schema.field("shard"), [shards])
    pq.write_table(index, folder / "index.parquet")
    list_as_it_is(folder)
    assert told(validate(folder)) == {
        (TAR, "index"),
        ("webdataset/edits-000000.tar", "index"),
        ("index.parquet", "index"),
    }
    with pytest.raises(ShardError):
        open_packed(folder).sample_at(4)


def test_a_lost_index_row_is_found(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / "index.parquet").slice(0, 7), folder / "index.parquet")
    list_as_it_is(folder)
    assert ("index.parquet", "counts") in told(validate(folder))


def test_counts_that_do_not_add_up_are_found(folder: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["rejected"] = {"duplicate_key": 3}
        values["shards"][0]["samples"] += 1

    change_manifest(folder, change)
    faults = told(validate(folder))
    assert ("manifest.json", "counts") in faults
    assert ("webdataset/edits-000000.tar", "index") in faults


def test_newer_schema_versions_are_found(folder: Path) -> None:
    table = pq.read_table(folder / PARQUET)
    metadata = {**table.schema.metadata, b"editmill.schema_version": b"7"}
    pq.write_table(table.replace_schema_metadata(metadata), folder / PARQUET)
    list_as_it_is(folder)
    assert told(validate(folder)) == {(PARQUET, "schema_version")}
    change_manifest(folder, lambda values: values.update(record_version=9))
    assert ("manifest.json", "schema_version") in told(validate(folder))
    with pytest.raises(SchemaVersionError):
        open_packed(folder)
    change_manifest(folder, lambda values: values.update(manifest_version=9))
    assert told(validate(folder)) == {("manifest.json", "schema_version")}


def test_a_sample_that_contradicts_itself_is_found(folder: Path) -> None:
    stream = io.BytesIO()
    Image.new("1", (8, 8)).save(stream, "PNG")
    with tarfile.open(folder / TAR) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar.getmembers()]
    with tarfile.open(folder / TAR, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (member, data) in enumerate(members):
            if member.name.endswith("mask.png") and number < 5:
                data = stream.getvalue()
            elif member.name.endswith("json") and number > 10:
                data = b"{}"
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    list_as_it_is(folder)
    faults = validate(folder)
    assert {(TAR, "sample"), (TAR, "index")} == told(faults)
    assert any("mask has 8 x 8 pixels" in fault.sentence for fault in faults)


def test_a_lost_or_damaged_manifest_is_found_and_a_foreign_folder_is_a_wrong_call(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").write_text('{"record": ')
    assert told(validate(folder)) == {("manifest.json", "manifest")}
    (folder / "manifest.json").write_text('{"record": "EditSample"}')
    assert told(validate(folder)) == {("manifest.json", "manifest")}
    (folder / "manifest.json").unlink()
    assert told(validate(folder)) == {("manifest.json", "manifest")}
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError):
            validate(wrong)


def test_a_manifest_that_leads_out_of_the_folder_is_found(folder: Path) -> None:
    change_manifest(folder, lambda values: values["shards"][0].update(name="webdataset/../../x.tar"))
    assert told(validate(folder)) == {("webdataset/../../x.tar", "manifest")}


def test_a_table_that_is_no_shard_is_found(folder: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), folder / PARQUET)
    list_as_it_is(folder)
    assert told(validate(folder)) == {(PARQUET, "damaged")}
