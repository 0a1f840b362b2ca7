"""The UniWorld-V1 release, converted: every weight in its place, and nothing lost or invented."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from flux_layout import write_flux
from release_layout import Release, release_state, write_release
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import SiglipVisionConfig

from schemas.errors import ConfigError, InputError
from unified_model.card import CARD_NAME
from unified_model.checkpoint import lineage_of
from unified_model.model import UnifiedEditModel
from unified_model.release.convert import ReleaseConfig, convert_release
from unified_model.release.give_back import write_as_release
from unified_model.release.weights import StoredWeights, open_weights
from unified_model.release.writing import plan_shards
from unified_model.text_encoders import empty_pooled


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("flux") / "FLUX.1-dev")


@pytest.fixture(scope="module")
def release(tiny: UnifiedEditModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "UniWorld-V1", tiny, release_state(tiny))


def config(release: Path, tiny_folder: Path, flux: Path, **changes: object) -> ReleaseConfig:
    places = {"release": str(release), "siglip": str(tiny_folder / "siglip"), "flux": str(flux), "dtype": "float32"}
    return ReleaseConfig.model_validate({**places, **changes})


def same(ours: nn.Module, theirs: nn.Module, dtype: torch.dtype = torch.float32) -> bool:
    expected = theirs.state_dict()
    state = ours.state_dict()
    return state.keys() == expected.keys() and all(
        torch.equal(value, expected[name].to(dtype)) for name, value in state.items()
    )


def test_a_converted_release_computes_what_its_modules_compute(
    tiny: UnifiedEditModel, release: Path, tiny_folder: Path, flux: Path, tmp_path: Path
) -> None:
    assert len(list(release.glob("model-*.safetensors"))) > 3
    seen: list[tuple[int, int]] = []
    done = convert_release(
        config(release, tiny_folder, flux, text_encoders=True), tmp_path / "model", lambda *step: seen.append(step)
    )
    model = UnifiedEditModel.from_pretrained(tmp_path / "model")
    assert same(model.tower.vlm, tiny.tower.vlm)
    assert same(model.core.denoiser, tiny.core.denoiser)
    assert model.tower.vlm.generation_config.max_new_tokens == tiny.tower.vlm.generation_config.max_new_tokens
    inputs = model.processor(["Make the sky purple"], [[np.full((64, 48, 3), 9, np.uint8)]])
    features = model.features(inputs)
    torch.testing.assert_close(features.vlm_states, tiny.features(inputs).vlm_states)
    assert (inputs.mm_token_type_ids == 1).sum() > 200  # at 448 x 448 pixels, whatever the reference's size
    modules = Release(tiny).denoise_tower
    with torch.no_grad():
        words = modules.denoise_projector(features.vlm_states[0])
        image = modules.siglip_projector(features.siglip_tokens[0])
        place = int(features.image_positions[0])
        expected = torch.cat((words[:place], image, words[place:]))
        torch.testing.assert_close(model.core.conditioner(features).tokens[0], expected)
    assert (model.processor.prompt_version, model.processor.text.t5_length) == (2, 256)
    pooled = empty_pooled(model.text.clip, model.processor.text.clip)
    assert torch.equal(model.core.conditioner.pooled, pooled)
    assert done.parts["transformer"][1] == sum(value.numel() for value in tiny.core.denoiser.parameters())
    assert seen[-1][0] == seen[-1][1] == sum(parameters for _, parameters in done.parts.values())
    assert [(rule.prefix, len(keys)) for rule, keys in done.unread.items()] == [("denoise_tower.vae_projector.", 4)]


def test_bfloat16_is_the_default_and_shards_have_an_index(
    tiny: UnifiedEditModel,
    release: Path,
    tiny_folder: Path,
    flux: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unified_model.release.writing.SHARD_BYTES", 10**5)
    dtype = ReleaseConfig(release="a/b").dtype
    assert dtype == "bfloat16"
    convert_release(config(release, tiny_folder, flux, dtype=dtype, takes_reference_latents=True), tmp_path / "model")
    for part in ("vlm", "transformer"):
        assert len(list((tmp_path / "model" / part).glob("*-of-*.safetensors"))) > 1
    model = UnifiedEditModel.from_pretrained(tmp_path / "model", torch.bfloat16)
    assert same(model.core.denoiser, tiny.core.denoiser, torch.bfloat16)
    assert model.text.clip is None
    assert model.takes_reference_latents
    assert model.core.conditioner.pooled.abs().sum() > 0


def changed(state: dict[str, Tensor], change: str) -> dict[str, Tensor]:
    if change == "unknown":
        return {**state, "denoise_tower.convnext_projector.0.weight": torch.zeros(1), "ema.decay": torch.zeros(1)}
    if change == "missing":
        dropped = ("denoise_tower.siglip_projector.2.bias", "visual.patch_embed.proj.weight")
        return {name: value for name, value in state.items() if name not in dropped}
    if change == "foreign":
        return {**state, "denoise_tower.denoiser.transformer_blocks.2.attn.to_q.weight": torch.zeros(64, 64)}
    return {**state, "lm_head.weight": state["lm_head.weight"][:7].clone()}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("unknown", ["denoise_tower.convnext_projector.0.weight", "ema.decay", "keys.py"]),
        ("missing", ["siglip_connector.down.bias", "model.visual.patch_embed.proj.weight"]),
        ("foreign", ["denoise_tower.denoiser.transformer_blocks.2.attn.to_q.weight"]),
        ("shape", ["lm_head.weight (7, 64)"]),
    ],
)
def test_what_does_not_fit_is_listed_and_nothing_is_written(
    tiny: UnifiedEditModel, tiny_folder: Path, flux: Path, tmp_path: Path, change: str, named: list[str]
) -> None:
    broken = write_release(tmp_path / "release", tiny, changed(release_state(tiny), change), "1GB")
    with pytest.raises(InputError) as caught:
        convert_release(config(broken, tiny_folder, flux), tmp_path / "model")
    assert all(name in str(caught.value) for name in named)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release"]


def test_a_damaged_or_partial_release_is_refused(
    tiny: UnifiedEditModel, tiny_folder: Path, flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(place: Path, match: str) -> None:
        with pytest.raises(InputError, match=match):
            convert_release(config(place, tiny_folder, flux), tmp_path / "model")

    release = write_release(tmp_path / "release", tiny, release_state(tiny))
    shard = sorted(release.glob("model-*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.unlink()
    refused(release, shard.name)
    shard.write_bytes(whole[:1000])
    refused(release, shard.name)
    save_file({"else": torch.zeros(1)}, shard)
    refused(release, "in the index")
    shard.write_bytes(whole)
    (release / "config.json").write_text(json.dumps({"hidden_size": 64}))
    refused(release, "denoise_tower")
    refused(flux, "holds no")
    whole_release = write_release(tmp_path / "mute", tiny, release_state(tiny))
    (whole_release / "chat_template.json").unlink()
    refused(whole_release, "no chat template")
    assert not list(tmp_path.glob("*model*"))
    refused(tmp_path / "nowhere", "cannot be fetched")


def test_surroundings_that_do_not_fit_are_refused_before_anything_is_written(
    release: Path, tiny_folder: Path, flux: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match="holds no vae"):
        convert_release(config(release, tiny_folder, tiny_folder / "siglip"), tmp_path / "model")
    with pytest.raises(InputError, match="AutoImageProcessor"):
        convert_release(config(release, tiny_folder, flux, siglip=str(flux / "vae")), tmp_path / "model")
    narrow = tmp_path_factory.mktemp("narrow")
    SiglipVisionConfig(hidden_size=24, num_attention_heads=2).save_pretrained(narrow)
    shutil.copy(tiny_folder / "siglip" / "preprocessor_config.json", narrow)
    with pytest.raises(ConfigError, match="48 wide"):
        convert_release(config(release, tiny_folder, flux, siglip=str(narrow)), tmp_path / "model")
    (tmp_path / "model" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"mine\.txt"):
        convert_release(config(release, tiny_folder, flux), tmp_path / "model")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine.txt"]


def test_shards_hold_every_weight_once_and_stay_small() -> None:
    shapes = {"a": (10,), "b": (100,), "c": (10,), "d": (9,), "e": ()}
    assert plan_shards(shapes, itemsize=2, shard_bytes=40) == [["a"], ["b"], ["c", "d", "e"]]


def test_a_model_goes_back_into_the_release(
    release: Path, tiny_folder: Path, flux: Path, tmp_path: Path, tiny: UnifiedEditModel
) -> None:
    """Its own weights make the very release; others come back out of it."""
    convert_release(config(release, tiny_folder, flux), tmp_path / "model")

    def given_back(folder: Path, name: str) -> StoredWeights:
        return open_weights(write_as_release(lineage_of(folder), release, tmp_path / name))

    before, same_again = open_weights(release), given_back(tmp_path / "model", "again")
    assert same_again.shapes == before.shapes
    held = dict(same_again.read(same_again.shapes))
    assert all(torch.equal(value, held[key]) for key, value in before.read(before.shapes))
    copied = {path.name for path in (tmp_path / "again").iterdir() if ".safetensors" not in path.name}
    assert copied == {path.name for path in release.iterdir() if ".safetensors" not in path.name}
    trained = UnifiedEditModel.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        for value in trained.core.parameters():
            value.mul_(1.25)
    trained.save_core(tmp_path / "core")
    given_back(tmp_path / "core", "trained")
    convert_release(config(tmp_path / "trained", tiny_folder, flux), tmp_path / "back")
    assert same(UnifiedEditModel.from_pretrained(tmp_path / "back").core, trained.core)


def test_what_does_not_fit_the_release_is_listed(tiny_folder: Path, release: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "model")
    path = tmp_path / "model" / "conditioner" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["vlm_connector.up.bias"] = state["vlm_connector.up.bias"][:7].clone()
    save_file(state, path)
    with pytest.raises(InputError, match="prompt version 1"):
        write_as_release(lineage_of(tmp_path / "model"), release, tmp_path / "out")
    card = tmp_path / "model" / CARD_NAME
    card.write_text(json.dumps(json.loads(card.read_text()) | {"prompt_version": 2}))
    with pytest.raises(InputError, match=r"vlm_connector\.up\.bias \(7,\)"):
        write_as_release(lineage_of(tmp_path / "model"), release, tmp_path / "out")
    assert not (tmp_path / "out").exists()
