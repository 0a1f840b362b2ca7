"""Validation in whole runs of the real trainer: what it writes, and that training does not notice it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_data import caption_row, changed, config_for, edit_row, pack_rows, spoil

from schemas.errors import ConfigError
from trainer import distributed, run_folder
from trainer.config import TrainConfig
from trainer.measures.throughput import MEASURED
from trainer.session import build
from trainer.train import train
from trainer.validation.averaged import averaged_weights
from trainer.validation.loss_rows import LOSS_SCHEMA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

TIMED = (*MEASURED, "seconds")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six samples that no run trains on, of three bins."""
    rows = [edit_row(200 + number, edited_fraction=(0.004, 0.03, 0.3)[number % 3]) for number in range(5)]
    rows.append(edit_row(205, mask_status="global"))
    return pack_rows(tmp_path_factory.mktemp("held-out") / "packed", rows)


def checks(held_out: Path, **more: Any) -> dict[str, Any]:
    return {"shards": [str(held_out)], "every": 2, "edits": 2, "sampling_steps": 2, **more}


def lines(config: TrainConfig, name: str = "log.jsonl") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (Path(config.output) / name).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMED} for line in found]


@pytest.mark.parametrize("engine", [
    {"zero_stage": 0}, {"zero_stage": 1}, {"zero_stage": 2, "dtype": "bfloat16"}, {"zero_stage": 3},
    {"zero_stage": 1, "compile": "eager"},
])  # fmt: skip
def test_training_does_not_notice_validation(
    tiny_model: Path, shards: Path, held_out: Path, tmp_path: Path, engine: dict[str, Any]
) -> None:
    plain = config_for(tiny_model, shards, tmp_path / "plain", engine=engine, steps=3)
    few = checks(held_out, at_start=True, samples=2, edits=1, sampling_steps=1)
    watched = changed(plain, output=str(tmp_path / "watched"), validation=few)
    train(plain)
    train(watched)
    assert lines(watched) == lines(plain)
    found = lines(watched, "validation.jsonl")
    assert [line["step"] for line in found] == [0, 2, 3]
    assert all(line["raw/loss"] > 0 and line["ema/loss"] > 0 for line in found)
    assert found[0]["raw/loss"] == found[0]["ema/loss"] != found[1]["raw/loss"]


def test_a_validation_is_written_and_repeats_after_a_death(
    tiny_model: Path, shards: Path, held_out: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def die(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            raise Killed

    asked = checks(held_out, every=1, other_instructions=4)
    whole = config_for(tiny_model, shards, tmp_path / "whole", validation=asked)
    broken = whole.model_copy(update={"output": str(tmp_path / "broken")})
    train(whole)
    with pytest.raises(Killed):
        train(broken, on_step=die)
    train(broken)
    assert lines(broken, "validation.jsonl") == lines(whole, "validation.jsonl")
    names = ["step-000001", "step-000002", "step-000003", "step-000004"]
    for run in (whole, broken):
        assert sorted(folder.name for folder in (Path(run.output) / "validation").iterdir()) == names
    folder, other = (Path(run.output) / "validation" / names[-1] for run in (whole, broken))
    rows = pq.read_table(folder / "loss.parquet")
    assert rows.schema == LOSS_SCHEMA and rows.num_rows == 6 * 9 * 2
    assert set(rows["area_bin"].to_pylist()) == {"under_1", "1_to_5", "over_20", "global"}
    assert (folder / "loss.parquet").read_bytes() == (other / "loss.parquet").read_bytes()
    others = pq.read_table(folder / "loss-other-instruction.parquet")
    assert others.schema == LOSS_SCHEMA and others.num_rows == 4 * 9 * 2
    own = {(row["weights"], row["key"], row["level"]): row for row in rows.to_pylist()}
    pairs = [(row, own[row["weights"], row["key"], row["level"]]) for row in others.to_pylist()]
    assert all(row["inside_count"] == same["inside_count"] for row, same in pairs)
    # The instruction alone differs, and it is heard.
    assert all(row["inside_sum"] != same["inside_sum"] for row, same in pairs)
    assert all("ema/instruction_gain" in line for line in lines(whole, "validation.jsonl"))
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert len(pictures) == 2 and all((folder / name).read_bytes() == (other / name).read_bytes() for name in pictures)
    with Image.open(folder / pictures[0]) as picture:
        assert picture.width > 5 * 192 and picture.height > 192
    edits = [json.loads(line) for line in (folder / "edits.jsonl").read_text().splitlines()]
    assert [edit["weights"] for edit in edits] == ["raw", "ema"] * 2
    assert all(0 < edit["inside_psnr"] < 60 and -1 <= edit["inside_ssim"] <= 1 for edit in edits)
    assert all(edit["inside_lpips"] is None and edit["inside_clip"] is None for edit in edits)
    board = EventAccumulator(str(Path(whole.output) / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("validation_area/ema/loss_inside_under_1")] == [1, 2, 3, 4]
    assert len([tag for tag in board.Tags()["images"] if tag.startswith("edits/")]) == 2


def test_without_an_average_the_raw_weights_alone_are_validated(
    tiny_model: Path, shards: Path, held_out: Path, tmp_path: Path
) -> None:
    config = config_for(
        tiny_model, shards, tmp_path / "run", ema={"enabled": False}, steps=1,
        validation=checks(held_out, loss_weights=["ema"], edits=0, samples=2),
    )  # fmt: skip
    train(config)
    (line,) = lines(config, "validation.jsonl")
    assert "raw/loss" in line and not any(name.startswith("ema/") for name in line)


@pytest.mark.parametrize(("stage", "dtype"), [(0, "float32"), (1, "bfloat16"), (2, "float32"), (3, "bfloat16")])
def test_averages_come_and_go_to_the_last_bit(
    tiny_model: Path, shards: Path, tmp_path: Path, stage: int, dtype: str
) -> None:
    config = config_for(tiny_model, shards, tmp_path / "run", engine={"zero_stage": stage, "dtype": dtype})
    session = build(config, distributed.start(), run_folder.Start(None, 0, False))
    ema = session.ema
    assert ema is not None
    for shard in ema.shards.values():
        shard.normal_()
    parameters = {name: value for name, value in session.model.core.named_parameters() if value.requires_grad}

    def held() -> dict[str, list[torch.Tensor]]:
        return {
            name: [value.detach().clone(), *([value.ds_tensor.detach().clone()] if hasattr(value, "ds_tensor") else [])]
            for name, value in parameters.items()
        }

    before, averages = held(), dict(ema.gather())
    with averaged_weights(parameters, ema, session.ranks):
        for name, copies in held().items():
            for copy in copies:
                if copy.numel():
                    flat = averages[name].flatten().to(copy.dtype)
                    assert torch.equal(copy.flatten()[: flat.numel()], flat), name
    after = held()
    assert all(
        torch.equal(ours, theirs)
        for name in before
        for ours, theirs in zip(after[name], before[name], strict=True)
    )  # fmt: skip


def test_images_with_captions_are_validated_as_made_whole(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    folder = pack_rows(tmp_path / "captions", [caption_row(number) for number in range(2)])
    config = config_for(tiny_model, shards, tmp_path / "run", steps=1, validation=checks(folder))
    train(config)
    (line,) = lines(config, "validation.jsonl")
    assert line["ema/loss_inside_global"] == line["ema/loss"] and "raw/copy_rate" not in line
    table = pq.read_table(Path(config.output) / "validation" / "step-000001" / "loss.parquet")
    assert set(table["edited_fraction"].to_pylist()) == {1.0} and set(table["outside_count"].to_pylist()) == {0}


def test_broken_samples_are_left_out_and_wrong_shards_refused(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    rows = [edit_row(number) for number in range(300, 304)]
    folder = pack_rows(tmp_path / "some", rows)
    spoil(folder, rows[1]["key"], "target")
    config = config_for(tiny_model, shards, tmp_path / "run", steps=1, validation=checks(folder, edits=0))
    train(config)
    loss = pq.read_table(Path(config.output) / "validation" / "step-000001" / "loss.parquet")
    assert set(loss["key"].to_pylist()) == {str(row["key"]) for row in rows} - {str(rows[1]["key"])}
    with pytest.raises(ConfigError, match="hold no sample to take"):
        train(changed(config, output=str(tmp_path / "none"), validation={"mask_statuses": ["unchanged"]}))
