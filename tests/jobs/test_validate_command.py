"""`editmill validate`: one line a fault, and exit codes 0, 1 and 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipelines.pack import PackConfig, pack
from schemas.images import encode_mask
from schemas.keys import image_key
from schemas.records import IMAGE_RECORD


def one_image() -> pa.Table:
    image = {"bytes": encode_mask(np.ones((16, 16), np.bool_)), "path": "a.png"}
    row = {"key": image_key("a", "b"), "url": "a", "caption": "b", "image": image}
    return pa.Table.from_pylist([row], schema=IMAGE_RECORD.arrow)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pack([one_image], PackConfig(record="images"), tmp_path / "shards")
    return tmp_path / "shards"


def test_exit_codes_and_lines(folder: Path) -> None:
    runner = CliRunner()
    sound = runner.invoke(app, ["validate", str(folder)])
    assert sound.exit_code == 0 and "no fault; 1 samples in 2 shards" in sound.output
    path = folder / "webdataset/images-000000.tar"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    (folder / "parquet/images-000000.parquet").unlink()
    for arguments in (["validate", str(folder)], ["validate", "--quick", str(folder)]):
        faulty = runner.invoke(app, arguments)
        assert faulty.exit_code == 1
        kinds = [line.split("\t")[:2] for line in faulty.output.splitlines() if "\t" in line]
        assert ["hash", "webdataset/images-000000.tar"] in kinds
        assert ["missing", "parquet/images-000000.parquet"] in kinds


@pytest.mark.slow
def test_a_wrong_call_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "validate", str(tmp_path / "none")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert run.returncode == 2
    assert len(run.stderr.strip().splitlines()) == 1 and "is no folder" in run.stderr
