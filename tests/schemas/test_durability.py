"""Files appear whole or not at all; configs, manifests and layouts tell what is wrong with them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field

from schemas.atomic import canonical_json, fingerprint, remove_partials, sha256_of, write_bytes, write_json, write_whole
from schemas.config import Config, parse_config, read_yaml
from schemas.errors import ConfigError, InputError, SchemaVersionError, ShardError
from schemas.folders import locked
from schemas.layout import BUCKETS, aspect_bucket, reference_member, shard_name
from schemas.manifest import MANIFEST_VERSION, FileEntry, ShardManifest, read_manifest


class Inner(Config):
    threshold: int = Field(default=18, ge=0, le=255)


class Outer(Config):
    name: str
    inner: Inner = Inner()


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), write_whole(path) as stream:
        stream.write(b"half of the new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_killed_write_leaves_only_a_partial_that_is_swept(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time\nfrom schemas.atomic import write_whole\n"
        "with write_whole(pathlib.Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'x' * 1000000); stream.flush(); print('half', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None and process.stdout.readline() == b"half\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "file").exists()
    assert len(remove_partials(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_equal_values_have_equal_fingerprints(tmp_path: Path) -> None:
    assert canonical_json({"b": 1, "a": [1.5]}) == canonical_json({"a": [1.5], "b": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    write_json(tmp_path / "one.json", {"b": 1, "a": 2})
    write_json(tmp_path / "two.json", {"a": 2, "b": 1})
    assert sha256_of(tmp_path / "one.json") == sha256_of(tmp_path / "two.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a", "iner": {}}, "iner.*not a known key.*Did you mean 'inner'"),
        ({"name": "a", "inner": {"treshold": 1}}, r"inner\.treshold.*Did you mean 'threshold'"),
        ({}, "name.*required"),
        ({"name": "a", "inner": {"threshold": 256}}, r"inner\.threshold = 256.*less than or equal to 255"),
    ],
)
def test_config_errors_name_field_value_rule_and_mend(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(Outer, values, "a.yaml")


def test_unreadable_configs_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path / "missing.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="must be YAML"):
        read_yaml(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="mapping"):
        read_yaml(tmp_path / "list.yaml")


def test_manifest_round_trip_and_its_faults(tmp_path: Path) -> None:
    index = FileEntry(name="index.parquet", format="index", samples=1, bytes=2, sha256="0" * 64)
    manifest = ShardManifest(
        record="EditSample", record_version=1, config={}, rows_in=2, kept=1, rejected={"a": 1}, shards=[], index=index
    )
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_manifest(tmp_path)
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    values = json.loads((tmp_path / "manifest.json").read_text())
    write_json(tmp_path / "manifest.json", {**values, "manifest_version": MANIFEST_VERSION + 1})
    with pytest.raises(SchemaVersionError, match="Upgrade"):
        read_manifest(tmp_path)
    write_json(tmp_path / "manifest.json", {**values, "kept": "many"})
    with pytest.raises(ShardError, match="not a shard manifest"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"{")
    with pytest.raises(ShardError, match="parsed"):
        read_manifest(tmp_path)


def test_layout_names() -> None:
    assert shard_name("edits", 7, "tar") == "edits-000007.tar"
    assert [reference_member(position) for position in range(3)] == ["reference", "reference1", "reference2"]
    assert aspect_bucket(512, 512) == "1:1"
    assert aspect_bucket(1920, 1080) == "16:9"
    assert aspect_bucket(10, 1000) == "9:16"
    for name in BUCKETS:
        width, height = (int(part) for part in name.split(":"))
        assert aspect_bucket(width * 100, height * 100) == name


def test_two_writers_of_one_file_do_not_disturb_each_other_even_with_one_process_id(tmp_path: Path) -> None:
    # As two machines that share a file system and, by chance, a process id.
    path = tmp_path / "file"
    with write_whole(path) as first:
        first.write(b"first, ")
        with write_whole(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"whole")
    assert path.read_bytes() == b"first, whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_locked_folder_is_one_processs_own_until_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        locked(tmp_path / "new", ".lock", "output", "another run"),
        pytest.raises(InputError, match="another run works in this folder"),
        locked(tmp_path / "new", ".lock", "output", "another run"),
    ):
        pass
    with locked(tmp_path / "new", ".lock", "output", "another run"):
        pass

    def knows_no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", knows_no_locks)
    with locked(tmp_path / "new", ".lock", "output", "another run"):
        pass
