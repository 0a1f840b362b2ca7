"""A model that takes its references' latents trains with them, and without references as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training_data import config_for, edit_row, pack_rows

from trainer.train import train
from unified_model.loading import load_for_inference
from unified_model.tiny import build_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def several(number: int) -> dict[str, Any]:
    """A sample with one, two or three references."""
    row = edit_row(number)
    (reference,) = row["references"]
    return {**row, "references": [reference] * (1 + number % 3)}


def test_it_trains_on_rows_with_different_numbers_of_references(tmp_path: Path) -> None:
    shards = pack_rows(tmp_path / "packed", [several(number) for number in range(12)])
    runs = {}
    for name, takes in (("kontext", True), ("plain", False)):
        build_tiny(takes_reference_latents=takes).save_pretrained(tmp_path / name)
        config = config_for(
            tmp_path / name,
            shards,
            tmp_path / "runs" / name,
            data={"drop": {"image": 0.3}},
            batch_size=3,
            engine={"zero_stage": 2, "gradient_checkpointing": True},
        )
        assert train(config).finished
        runs[name] = losses(tmp_path / "runs" / name)
    assert len(runs["kontext"]) == 4
    assert all(one != other for one, other in zip(*runs.values(), strict=True))
    assert load_for_inference(tmp_path / "runs" / "kontext" / "export").takes_reference_latents
