"""A gradient that is not finite, though the loss is, stops the run and names where it came from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from training_data import config_for

from trainer import session
from trainer.errors import TrainingStopped
from trainer.loss.region_loss import error_map
from trainer.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_a_gradient_that_is_not_finite_names_its_micro_batch(
    tiny_model: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero_stage: int
) -> None:
    """The root of nothing has a slope without bound: the second micro-batch of step 3 gets it added to its error."""
    config = config_for(
        tiny_model, shards, tmp_path / "run", steps=5, gradient_accumulation=2, engine={"zero_stage": zero_stage}
    )
    calls: list[int] = []

    def steep(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        errors = error_map(prediction, target)
        return errors + (errors - errors.detach()).sqrt() if len(calls) == 6 else errors

    monkeypatch.setattr(session, "error_map", steep)
    taken: list[Any] = []
    plain = session.Session.errors
    monkeypatch.setattr(session.Session, "errors", lambda self, batch: (taken.append(batch), plain(self, batch))[1])
    with pytest.raises(TrainingStopped) as stopped:
        train(config)
    assert stopped.value.field == "gradient norm at step 3"
    told = str(stopped.value.rule)
    assert "rank 0, micro-batch 2: " in told and "micro-batch 1" not in told
    for key, dataset, shard in zip(taken[5].keys, taken[5].datasets, taken[5].shards, strict=True):
        assert f"{key} of {dataset} in {shard}" in told and os.path.isfile(shard)
    assert not any(key in told for key in taken[4].keys)
    assert "such as conditioner." in told
    lines = (Path(config.output) / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    monkeypatch.undo()
    assert train(config).finished
