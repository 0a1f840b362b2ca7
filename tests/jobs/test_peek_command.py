"""`editmill peek`: one sample, of shards of ours and of anybody's."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pair_files import write_pairs
from PIL import Image
from typer.testing import CliRunner, Result

from jobs.cli import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def png(value: int, side: int = 16) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peek")
    write_pairs(folder / "pairs", 6)
    assert call("masks", folder / "pairs", "--output", folder / "run").exit_code == 0
    packing = ("--output", folder / "shards", "--run-folder", folder / "packing")
    assert call("pack", folder / "run", *packing).exit_code == 0
    return folder


def keys(folder: Path) -> list[str]:
    listed: list[str] = pq.read_table(folder / "shards" / "index.parquet")["key"].to_pylist()
    return listed


def test_every_field_of_a_sample_is_told_wherever_it_lies(made: Path) -> None:
    first, second = keys(made)[:2]
    [tar], [parquet] = (made / "shards").rglob("*.tar"), (made / "shards" / "parquet").glob("*.parquet")
    told = call("peek", made / "shards")
    assert told.exit_code == 0 and "\x1b" not in told.output
    for words in (f"key                  {first}", "PNG 96 x 96", "mask_parameters", "low_threshold: 3.0", "noise:"):
        assert words in told.output
    assert call("peek", tar).output.splitlines()[0] == told.output.splitlines()[0]
    for place in (made / "shards", made / "run", tar, parquet):
        again = call("peek", place, second[:8])
        assert again.exit_code == 0 and second in again.output and "mask_evidence" in again.output, place


@pytest.mark.parametrize(("terminal", "mark"), [("kitty", "\x1b_Ga=T"), ("sixel", "\x1bP0;1;0q"), ("blocks", "▀")])
def test_the_pictures_are_printed_and_written(made: Path, tmp_path: Path, terminal: str, mark: str) -> None:
    told = call("peek", made / "shards", "--terminal", terminal, "--output", tmp_path / "one.png")
    assert told.exit_code == 0 and mark in told.output and "components" in told.output
    with Image.open(tmp_path / "one.png") as image:
        assert image.width > 2000


def test_a_key_that_is_none_is_answered_with_those_near_it(made: Path) -> None:
    first = keys(made)[0]
    wrong = call("peek", made / "shards", first[:9] + "z")
    assert first in str(wrong.exception) and "Near it" in str(wrong.exception)
    assert "The first are" in str(call("peek", made / "shards", "zz").exception)
    several = call("peek", made / "shards", "")
    assert "Type more of" in str(several.exception)


def test_a_tar_of_anybody_is_listed_and_its_images_are_shown(tmp_path: Path) -> None:
    members = {
        "./part/0001.jpg": png(90),
        "./part/0001.txt": b"a caption\x1b[31m",
        "./part/0001.json": json.dumps({"width": 16, "deep": {"a": list(range(60))}}).encode(),
        "part/0002.before.png": png(10),
        "part/0002.after.png": png(200),
        "part/0002.bin": b"\x00\xff\xfe",
        "part/0003.png": png(5)[:40],
    }
    tar = write_tar(tmp_path / "foreign.tar.gz", members)
    told = call("peek", tar, "--output", tmp_path / "one.png")
    assert told.exit_code == 0 and "part/0001" in told.output and "PNG 16 x 16" in told.output
    assert "a caption[31m" in told.output and (tmp_path / "one.png").is_file()
    second = call("peek", tar, "part/0002", "--terminal", "blocks")
    assert second.exit_code == 0 and "3 bytes" in second.output and "before.png" in second.output
    broken = call("peek", tar, "part/0003")
    assert broken.exit_code == 1 and "not shown: png" in broken.output
    assert "no picture" in str(call("peek", tar, "part/0003", "--output", tmp_path / "two.png").exception)


def test_a_parquet_of_anybody_is_read_by_row(tmp_path: Path) -> None:
    images = [{"bytes": png(value), "path": f"{value}.png"} for value in (10, 200)]
    pq.write_table(pa.table({"image": images, "label": ["dark", "light"]}), tmp_path / "some.parquet")
    told = call("peek", tmp_path / "some.parquet", "1", "--terminal", "blocks")
    assert told.exit_code == 0 and "light" in told.output and "200.png  PNG 16 x 16" in told.output
    assert "▀" in told.output


def test_what_is_no_shard_is_told(made: Path, tmp_path: Path) -> None:
    [tar] = (made / "shards").rglob("*.tar")
    (tmp_path / "cut.tar").write_bytes(tar.read_bytes()[:3000])
    (tmp_path / "text.tar").write_bytes(b"no tar at all" * 100)
    write_tar(tmp_path / "empty.tar", {})
    (tmp_path / "text.md").write_text("x")
    for name, words in (
        ("cut.tar", "unexpected end of data"),
        ("text.tar", "cannot be read as a tar"),
        ("empty.tar", "holds no sample"),
        ("text.md", "is no shard by its name"),
        ("nowhere", "does not exist"),
    ):
        answer = call("peek", tmp_path / name)
        assert answer.exit_code == 1 and words in str(answer.exception), answer
    assert "Use editmill preview" in str(call("peek", made / "pairs").exception)
