"""Stages: what trains, at release size and by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from training_data import config_for

from schemas.errors import ConfigError
from trainer.adapters import open_stage
from trainer.stages import STAGES, matches, open_modules
from unified_model.conditioners import MlpConditioner, Widths
from unified_model.conditioners.queries import QueryConditioner
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.tiny import build_tiny_flux


@pytest.fixture(scope="module")
def release_core() -> EditCore:
    """The core at release size, without memory: FLUX.1-dev's shapes are diffusers' defaults."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True)
        return EditCore(MlpConditioner.fresh(Widths(3584, 1152, 4096, 768)), FluxDenoiser(transformer))


def tiny_core() -> EditCore:
    return EditCore(MlpConditioner.fresh(Widths(64, 48, 64, 32)), FluxDenoiser(build_tiny_flux()))


@pytest.mark.parametrize(
    ("stage", "expected"),
    [("align", 94_388_224), ("edit", 4_104_933_632), ("connectors", 158_892_032), ("full", 12_060_300_352)],
)
def test_release_counts(release_core: EditCore, stage: str, expected: int) -> None:
    counts = open_modules(release_core, STAGES[stage].patterns)
    assert sum(count.parameters for count in counts) == expected
    assert sum(value.numel() for value in release_core.parameters() if value.requires_grad) == expected


def test_another_conditioner_trains_whole(release_core: EditCore) -> None:
    core = EditCore(QueryConditioner.fresh(Widths(64, 48, 64, 32)), FluxDenoiser(build_tiny_flux()))
    for stage in ("edit", "connectors", "full"):
        open_modules(core, STAGES[stage].patterns)
        assert all(value.requires_grad for value in core.conditioner.parameters())
    config = config_for(Path("x"), Path("x"), Path("x"), stage="align")
    with pytest.raises(ConfigError, match="mlp"):
        open_stage(core, config)
    assert sum(one.parameters for one in open_stage(release_core, config)) == 94_388_224


def test_the_text_branch_stays_frozen() -> None:
    core = tiny_core()
    open_modules(core, STAGES["edit"].patterns)
    frozen = {name for name, value in core.named_parameters() if not value.requires_grad}
    for part in ("add_q_proj", "norm_added_k", "norm1_context.linear", "ff.net", "context_embedder", "proj_out"):
        assert any(part in name for name in frozen), part


def test_a_pattern_without_match_is_an_error_that_names_near_paths() -> None:
    core = tiny_core()
    before = [value.requires_grad for value in core.parameters()]
    with pytest.raises(ConfigError, match=r"conditioner\.vlm_connector"):
        open_modules(core, ["conditioner.siglip_connector", "conditioner.vlm_conector"])
    assert [value.requires_grad for value in core.parameters()] == before


def test_a_star_stays_within_its_segment() -> None:
    assert matches("blocks.12.attn.to_q", "blocks.*.attn.to_q")
    assert not matches("blocks.1.2.attn.to_q", "blocks.*.attn.to_q")
    assert not matches("blocks.1.attn.to_q.lora", "blocks.*.attn.to_q")


def test_a_parameter_is_counted_once() -> None:
    counts = open_modules(tiny_core(), ["conditioner.vlm_connector", "conditioner.*"])
    assert counts[1].modules == 2
    assert counts[1].parameters == sum(value.numel() for value in tiny_core().conditioner.siglip_connector.parameters())
