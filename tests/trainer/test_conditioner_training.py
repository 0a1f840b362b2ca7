"""Another conditioner than the default one trains, sharded as whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from training_data import config_for

from schemas.errors import ConfigError
from trainer.stages import STAGES, open_modules
from trainer.train import train
from unified_model.conditioners import QueryConditioner, Widths
from unified_model.config import UnifiedModelConfig
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.loading import load_for_inference
from unified_model.model import UnifiedEditModel
from unified_model.tiny import build_tiny_flux

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


def test_stages_open_another_conditioner_whole_or_not_at_all() -> None:
    with torch.device("meta"):
        conditioner = QueryConditioner.fresh(Widths(64, 48, 64, 32), layers=1)
        core = EditCore(conditioner, FluxDenoiser(build_tiny_flux()))
    with pytest.raises(ConfigError, match="matches no module"):
        open_modules(core, STAGES["align"].patterns)
    (count,) = open_modules(core, STAGES["connectors"].patterns)
    assert count.parameters == sum(value.numel() for value in conditioner.parameters())


def test_queries_train_alike_under_zero_0_and_3(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    places = UnifiedModelConfig.of_folder(tiny_model).model_copy(
        update={"conditioner": None, "conditioner_kind": QueryConditioner.name}
    )
    UnifiedEditModel.from_components(places).save_pretrained(tmp_path / "queries")
    losses = {}
    for zero in (0, 3):
        run = tmp_path / f"zero{zero}"
        config = config_for(
            tmp_path / "queries", shards, run, steps=3, trainable=["conditioner"], engine={"zero_stage": zero}
        )
        assert train(config).finished
        losses[zero] = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
        exported = load_for_inference(run / "export").core.conditioner
        assert isinstance(exported, QueryConditioner)
        assert exported.to_pooled.weight.abs().sum() > 0
    assert losses[3] == pytest.approx(losses[0], rel=1e-5)
