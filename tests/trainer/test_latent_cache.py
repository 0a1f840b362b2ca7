"""A cache beside the shards: runs with and without it lose the same, and one of another model is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_data import config_for, edit_row, pack_rows, spoil

from jobs.caching.config import CacheConfig
from jobs.caching.job import CacheReport, cache
from schemas.config import parse_config
from trainer.cache.layout import SUFFIX
from trainer.cache.open import RunNeeds, TrainingCache, open_cache
from trainer.config import TrainConfig
from trainer.data.batch import MicroBatch
from trainer.data.loader import micro_batches
from trainer.data.training_data import open_data
from trainer.train import train
from unified_model.loading import load_for_inference
from unified_model.tiny import build_tiny

Make = Callable[..., CacheReport]


@pytest.fixture
def packed(shards: Path, tmp_path: Path) -> Path:
    """Shards of this test's own, with room for a cache beside them."""
    return Path(shutil.copytree(shards, tmp_path / "packed"))


def make(packed: Path, model: Path, **changes: Any) -> CacheReport:
    exact = {"compute": "float32", "stored": "float32", "resolution": 64}
    values = {"packed": packed, "model": str(model), "batch_size": 2, **exact, **changes}
    return cache(parse_config(CacheConfig, values, "test"))


def losses(config: TrainConfig) -> list[float]:
    train(config)
    return [json.loads(line)["loss"] for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]


def opened(config: TrainConfig, model: Path) -> tuple[TrainingCache, list[MicroBatch]]:
    """The caches of a run, and its micro-batches out of them."""
    data = open_data(config, 1)
    processor = load_for_inference(model).processor
    found = open_cache(config, data.index, RunNeeds(str(model), False, False, processor.prompt_version))
    return found, list(micro_batches(data, config, processor, 0, 0, 1, cache=found))


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_losses_are_the_same_with_and_without(packed: Path, tiny_model: Path, tmp_path: Path) -> None:
    drop = {"text": 0.3, "image": 0.2, "both": 0.2}
    data = {"drop": drop, "resolution": 64}
    without = losses(config_for(tiny_model, packed, tmp_path / "without", data=data))
    make(packed, tiny_model)
    # By a process of the loader's own, to which the places travel.
    assert losses(config_for(tiny_model, packed, tmp_path / "latents", data={**data, "workers": 1})) == without
    shutil.rmtree(packed.with_name(packed.name + SUFFIX))
    make(packed, tiny_model, features=True, dropped=True)
    # The VLM sees rows in other batches, padded otherwise, and so rounds otherwise.
    with_features = losses(config_for(tiny_model, packed, tmp_path / "features", data=data))
    assert with_features == pytest.approx(without, rel=1e-5)
    shutil.rmtree(packed.with_name(packed.name + SUFFIX))
    make(packed, tiny_model, stored="bfloat16")
    rounded = losses(config_for(tiny_model, packed, tmp_path / "rounded", data=data))
    assert rounded == pytest.approx(without, rel=5e-3) and rounded != without
    off = config_for(tiny_model, packed, tmp_path / "off", data={**data, "cache": "off"})
    assert losses(off) == without


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_model_that_sees_reference_latents_takes_them_from_a_cache(tmp_path: Path) -> None:
    build_tiny(takes_reference_latents=True).save_pretrained(tmp_path / "model")
    rows = [edit_row(number) for number in range(12)]
    several = [{**row, "references": row["references"] * (1 + number % 3)} for number, row in enumerate(rows)]
    packed = pack_rows(tmp_path / "packed", several)
    changes: dict[str, Any] = {"data": {"drop": {"image": 0.3}, "resolution": 64}, "batch_size": 3}
    without = losses(config_for(tmp_path / "model", packed, tmp_path / "without", **changes))
    make(packed, tmp_path / "model")
    said: list[str] = []
    config = config_for(tmp_path / "model", packed, tmp_path / "with", **changes)
    data = open_data(config, 1)
    said += open_cache(config, data.index, RunNeeds(config.model, True, False, 1)).lines
    assert "latents of 12 of 12 samples" in said[0]
    # The VAE sees one to three pictures of a row at a time, and rounds by how many.
    assert losses(config) == pytest.approx(without, rel=1e-5)


def test_batches_out_of_a_cache_hold_what_those_out_of_the_shards_hold(
    packed: Path, tiny_model: Path, tmp_path: Path
) -> None:
    config = config_for(tiny_model, packed, tmp_path / "run", data={"drop": {"image": 0.4}})
    _, plain = opened(config, tiny_model)
    model = load_for_inference(tiny_model)
    report = make(packed, tiny_model)
    assert (report.card.stored, report.card.samples, report.done_now) == (12, 12, 3)
    found, cached = opened(config, tiny_model)
    assert found.samples == 12 and "latents of 12 of 12 samples" in found.lines[0]
    for ours, theirs in zip(cached, plain, strict=True):
        assert (ours.keys, ours.mask_statuses, ours.datasets) == (theirs.keys, theirs.mask_statuses, theirs.datasets)
        assert torch.equal(ours.cells, theirs.cells) and torch.equal(ours.weights, theirs.weights)
        assert ours.latents is not None and ours.target.shape == theirs.target.shape
        assert torch.equal(ours.latents, model.codec.encode(theirs.target.float() / 127.5 - 1.0))
        assert torch.equal(ours.inputs.pixel_values, theirs.inputs.pixel_values)
    assert make(packed, tiny_model).done_now == 0


def test_features_out_of_a_cache_are_the_towers(packed: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = config_for(tiny_model, packed, tmp_path / "run", data={"drop": {"text": 0.3, "image": 0.3}})
    _, plain = opened(config, tiny_model)
    model = load_for_inference(tiny_model)
    make(packed, tiny_model, features=True, dropped=True)
    for ours, theirs in zip(opened(config, tiny_model)[1], plain, strict=True):
        expected = model.features(theirs.inputs)
        assert ours.inputs is None and ours.features is not None
        for name in ("vlm_mask", "image_rows", "image_positions"):
            assert torch.equal(getattr(ours.features, name), getattr(expected, name))
        mask = expected.vlm_mask
        assert torch.allclose(ours.features.vlm_states[mask], expected.vlm_states[mask], atol=1e-4)
        assert torch.allclose(ours.features.siglip_tokens, expected.siglip_tokens, atol=1e-4)


def test_a_cache_of_something_else_is_refused_by_name(packed: Path, tiny_model: Path, tmp_path: Path) -> None:
    make(packed, tiny_model)
    config = config_for(tiny_model, packed, tmp_path / "run")

    def told(config: TrainConfig, model: Path = tiny_model) -> str:
        found, _ = opened(config, model)
        assert found.samples == 0
        return "\n".join(found.lines)

    assert "resolution = 64, and the run has 96" in told(
        config_for(tiny_model, packed, tmp_path, data={"resolution": 96})
    )
    bfloat16 = config_for(tiny_model, packed, tmp_path, engine={"dtype": "bfloat16"})
    assert "compute = float32, and the run has bfloat16" in told(bfloat16)
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    weights = other / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: value * 1.01 for name, value in load_file(weights).items()}, weights)
    said = told(config_for(other, packed, tmp_path), other)
    assert "made with another model: vae/diffusion_pytorch_model.safetensors has another content" in said
    # Touched, and of the same content: it serves.
    (tiny_model / "vae" / "config.json").touch()
    assert opened(config, tiny_model)[0].samples == 12
    [folder] = packed.with_name(packed.name + SUFFIX).iterdir()
    values = next((folder / "shards").glob("*.bin"))
    values.write_bytes(values.read_bytes()[:-1])
    assert "has another size" in told(config)
    assert make(packed, tiny_model).done_now == 1 and opened(config, tiny_model)[0].samples == 12
    card = folder / "cache.json"
    card.write_text(card.read_text().replace('"finished"', '"running"'))
    assert "was not finished" in told(config)


def test_only_what_changed_is_made_again_and_bad_samples_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    rows = [edit_row(number) for number in range(8)]
    packed = pack_rows(tmp_path / "packed", rows, per_shard=4)
    make(packed, tiny_model)
    shutil.rmtree(packed)
    changed = pack_rows(tmp_path / "packed", [*rows[:4], *(edit_row(number) for number in range(20, 24))], per_shard=4)
    config = config_for(tiny_model, changed, tmp_path / "run")
    assert opened(config, tiny_model)[0].samples == 4
    report = make(changed, tiny_model)
    assert report.done_now == 1 and opened(config, tiny_model)[0].samples == 8
    broken = pack_rows(tmp_path / "broken", rows[:4], per_shard=4)
    spoil(broken, rows[1]["key"], "target")
    report = make(broken, tiny_model)
    assert (report.card.stored, sum(report.card.rejected.values())) == (3, 1)
    found, batches = opened(config_for(tiny_model, broken, tmp_path / "run"), tiny_model)
    assert found.samples == 3
    assert {sample.key for batch in batches for sample in batch.bad} == {rows[1]["key"]}
