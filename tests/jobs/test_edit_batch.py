"""`editmill edit --batch` and `--shards`: an outcome for every row, and nothing made twice."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from jobs.editing.batch import Options, edit_batch
from jobs.editing.listed import ListedRows
from jobs.editing.record import BatchRecord
from jobs.editing.rows import Sizing
from pipelines.pack import PackConfig, pack
from schemas.config import parse_config
from schemas.errors import ConfigError, EditmillError
from schemas.images import encode_mask
from schemas.keys import pair_key
from schemas.records import EDIT_SAMPLE
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.requests import EditRequest
from unified_model.tiny import build_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edit-batch") / "tiny"
    build_tiny().save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Rows:
    """A partition of given rows."""

    rows: tuple[dict[str, Any], ...]

    def __call__(self) -> pa.Table:
        return pa.Table.from_pylist(list(self.rows), pa.schema([one.with_nullable(True) for one in EDIT_SAMPLE.fields]))


@pytest.fixture(scope="module")
def packed_edits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three packed samples."""

    def png(level: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(np.full((32, 48, 3), level, np.uint8)).save(stream, "PNG")
        return stream.getvalue()

    rows = tuple(
        {
            "key": pair_key([png(number)], png(number + 99), "brighter"),
            "references": [{"bytes": png(number), "path": "a.png"}],
            "target": {"bytes": png(number + 99), "path": "b.png"},
            "instruction": "brighter",
            "mask": {"bytes": encode_mask(np.ones((32, 48), np.bool_)), "path": None},
            "mask_status": "ok", "edited_fraction": 1.0, "width": 48, "height": 32,
            "mask_recipe": "test", "mask_recipe_version": 1, "mask_parameters": "{}",
        }
        for number in range(3)
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("edit-shards") / "packed"
    pack([Rows(rows)], parse_config(PackConfig, {"formats": ["webdataset"]}, "test"), folder)
    return folder


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Nine lines, four of which can be edited."""
    folder = tmp_path / "list"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, size in (("a.png", (48, 64)), ("b.png", (48, 64)), ("c.png", (32, 32)), ("thin.png", (1, 300))):
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:100])
    lines: list[Any] = [
        {"image": "a.png", "instruction": "make it red"},
        {"image": "torn.png", "instruction": "make it red"},
        {"references": ["b.png", "c.png"], "instruction": "both", "output": "deep/both.jpg", "seed": 5, "target": "x"},
        {"image": "missing.png", "instruction": "make it red"},
        {"image": "c.png", "instruction": "a <|vision_end|> b"},
        {"image": "a.png", "instruction": "make it blue"},
        {"image": "thin.png", "instruction": "make it blue"},
        {"instruction": "a house", "width": 32, "height": 48, "output": "../out.png"},
        {"instruction": "a house", "width": 32, "height": 48},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "edits.jsonl").write_text(text + "\n\nno json\n")
    return folder / "edits.jsonl"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["edit", *map(str, arguments), "--steps", "1", "--device", "cpu"])


def outcomes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]


def test_every_row_has_an_outcome_and_bad_rows_cost_nothing(model: Path, listed: Path, tmp_path: Path) -> None:
    result = run("--checkpoint", model, "--batch", listed, "--output", tmp_path / "out", "--batch-size", 2)
    assert result.exit_code == 0, result.output
    assert "10 rows = 4 edited + 6 rejected" in result.output
    found = {one["row"]: (one["outcome"], one["reason"]) for one in outcomes(tmp_path / "out")}
    assert list(found) == list(range(1, 11))
    assert {row for row, (outcome, _) in found.items() if outcome == "edited"} == {1, 3, 6, 9}
    reasons = {row: reason for row, (_, reason) in found.items() if reason}
    assert reasons == {
        2: "image_truncated", 4: "image_not_found", 5: "instruction_refused", 7: "image_refused", 8: "line_invalid",
        10: "line_no_json",
    }  # fmt: skip
    pictures = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.[pj][np]g")}
    assert pictures == {"000001.png", "deep/both.jpg", "000006.png", "000009.png"}
    # Alone, with the same seed, a row gives the same image.
    alone = ["--image", listed.parent / "a.png", "--instruction", "make it blue", "--output", tmp_path / "alone.png"]
    assert run("--checkpoint", model, *alone).exit_code == 0
    together = np.asarray(Image.open(tmp_path / "out" / "000006.png")).astype(int)
    assert np.abs(together - np.asarray(Image.open(tmp_path / "alone.png"))).max() <= 1


def test_a_batch_goes_on_where_it_was(model: Path, listed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call = ["--checkpoint", model, "--batch", listed, "--output", out]
    run(*call, "--limit", 3)
    # As a kill leaves it: half a line at the end.
    with (out / "outcomes.jsonl").open("a") as stream:
        stream.write('{"row": 6, "outp')
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*.[pj][np]g")}
    Image.new("RGB", (64, 48)).save(listed.parent / "torn.png")
    assert "10 rows = 5 edited (2 of them before) + 5 rejected" in run(*call).output
    assert {path: path.stat().st_mtime_ns for path in made} == made
    (out / "000009.png").unlink()
    Image.new("RGB", (64, 48)).save(listed.parent / "a.png")
    assert "5 edited (2 of them before)" in run(*call).output
    assert [one["row"] for one in outcomes(out)] == list(range(1, 11))
    with pytest.raises(ConfigError, match="guidance"):
        raise run(*call, "--text-guidance", 2).exception


def test_packed_samples_are_edited_under_their_keys(model: Path, packed_edits: Path, tmp_path: Path) -> None:
    result = run("--checkpoint", model, "--shards", packed_edits, "--output", tmp_path / "out", "--limit", 2)
    assert "2 rows = 2 edited + 0 rejected" in result.output
    keys = {one["output"] for one in outcomes(tmp_path / "out")}
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == keys


def test_rows_that_do_not_fit_together_are_made_alone(
    model: Path, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = UnifiedEditPipeline.from_pretrained(model)
    plain = pipeline.edit

    def edit(requests: list[EditRequest], **options: Any) -> list[np.ndarray]:
        if len(requests) > 1 or requests[0].instruction == "both":
            raise torch.OutOfMemoryError
        return plain(requests, **options)

    monkeypatch.setattr(pipeline, "edit", edit)
    options = Options({"steps": 1, "max_pixels": 64 * 64}, Sizing(), batch_size=3)
    record = BatchRecord(tmp_path / "out", {})
    tally = edit_batch(pipeline, ListedRows(listed), tmp_path / "out", record, options, lambda tally: None)
    assert tally.edited == 3 and tally.reasons["out_of_memory"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--batch", "edits.jsonl", "--shards", "shards"],
        ["--batch", "edits.jsonl", "--image", "a.png"],
        ["--batch", "nowhere.jsonl"],
        ["--shards", "nowhere"],
        ["--instruction", "a house"],
        ["--quantise-dit", "4bit", "--instruction", "x", "--image", "a.png"],
    ],
)
def test_wrong_calls_are_told_before_the_model_is_loaded(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("a.png")
    result = run("--checkpoint", model, "--output", "out.png", *wrong)
    assert isinstance(result.exception, EditmillError), result.output
    assert not Path("out.png").exists()
