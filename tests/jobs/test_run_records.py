"""A finished run as the source of another."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pair_files import editmill

from jobs.config import PipelineConfig
from jobs.pipeline import run_pipeline
from jobs.run_records import RunRecords, RunRecordsConfig
from schemas.errors import InputError


def test_rows_come_back_in_pieces_and_in_order(tmp_path: Path) -> None:
    rows = 700
    laion = pa.table({"URL": [f"{n}.jpg" for n in range(rows)], "WIDTH": list(range(rows))})
    pq.write_table(laion, tmp_path / "laion.parquet")
    done = editmill("filter", tmp_path / "laion.parquet", "--output", tmp_path / "kept", "--min-width", 100)
    assert done.returncode == 0, done.stderr

    source = RunRecords(RunRecordsConfig(path=tmp_path / "kept"))
    partitions = source.partitions()
    assert [(piece.start, piece.stop) for piece in partitions] == [(0, 256), (256, 512), (512, 600)]
    tables = [source.read(piece).kept for piece in partitions]
    assert pa.concat_tables(tables)["width"].to_pylist() == list(range(100, rows))
    assert set(source.columns()) >= {"key", "url", "width"}

    moved = (tmp_path / "kept").rename(tmp_path / "moved")
    again = RunRecords(RunRecordsConfig(path=moved))
    assert again.fingerprint() == source.fingerprint() and list(again.partitions()) == list(partitions)

    config = {"name": "copy", "output": tmp_path / "copy", "source": {"run_records": {"path": moved}}}
    report = run_pipeline(PipelineConfig.model_validate(config))
    assert report.kept == 600 and (tmp_path / "copy" / "report.html").stat().st_size > 1000

    records = next((moved / "records").iterdir())
    records.write_bytes(records.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="sha256 differs"):
        again.read(partitions[0])


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest.json"):
        RunRecords(RunRecordsConfig(path=tmp_path)).partitions()
