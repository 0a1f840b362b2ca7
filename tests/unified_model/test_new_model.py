"""New models from published layouts, and the commands that write model folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from flux_layout import write_flux
from release_layout import release_state, write_release
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration
from typer.testing import CliRunner, Result

from jobs.cli import app
from schemas.errors import ConfigError, EditmillError, InputError
from unified_model.loading import load_for_inference
from unified_model.model import UnifiedEditModel
from unified_model.new_model import NewModelConfig, build_new_model
from unified_model.pipeline import UnifiedEditPipeline


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("flux") / "FLUX.1-dev")


def config(tiny_folder: Path, flux: Path, **changes: object) -> NewModelConfig:
    places = {"vlm": str(tiny_folder / "vlm"), "siglip": str(tiny_folder / "siglip"), "flux": str(flux)}
    return NewModelConfig.model_validate({**places, "dtype": "float32", **changes})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def redux(folder: Path) -> nn.Module:
    """FLUX.1-Redux's image embedder as diffusers saves it."""
    torch.manual_seed(3)
    encoder = ReduxImageEncoder(redux_dim=48, txt_in_features=64)
    encoder.save_pretrained(folder)
    return encoder


def test_connectors_of_redux_and_of_the_release_fit(tiny_folder: Path, flux: Path, tmp_path: Path) -> None:
    encoder = redux(tmp_path / "image_embedder")
    torch.manual_seed(4)
    stage1 = nn.Sequential(nn.Linear(64, 192), nn.SiLU(), nn.Linear(192, 64))
    saved = {f"denoise_tower.denoise_projector.{name}": value for name, value in stage1.state_dict().items()}
    torch.save(saved, tmp_path / "denoise_projector.bin")
    sources = (str(tmp_path / "image_embedder"), str(tmp_path / "denoise_projector.bin"))
    conditioner = build_new_model(config(tiny_folder, flux, connector_weights=sources)).core.conditioner
    image, words = torch.randn(2, 3, 48), torch.randn(2, 3, 64)
    with torch.no_grad():
        torch.testing.assert_close(conditioner.siglip_connector(image), encoder(image).image_embeds)
        torch.testing.assert_close(conditioner.vlm_connector(words), stage1(words))
    # flux-redux-siglipv2-512.bin holds the same weights by the names of a bare projector.
    names = {"redux_up": "siglip_projector.0", "redux_down": "siglip_projector.2"}
    bare = {f"{names[name.split('.')[0]]}.{name.split('.')[1]}": value for name, value in encoder.state_dict().items()}
    torch.save(bare, tmp_path / "bare.bin")
    again = build_new_model(config(tiny_folder, flux, connector_weights=(str(tmp_path / "bare.bin"),)))
    with torch.no_grad():
        torch.testing.assert_close(again.core.conditioner.siglip_connector(image), encoder(image).image_embeds)


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ({"siglip_projector.0.weight": torch.zeros(192, 48)}, "siglip_connector.down.bias"),
        ({"redux_sideways.weight": torch.zeros(1)}, "redux_sideways.weight"),
        ({"lm_head.weight": torch.zeros(1)}, "belong to no connector: lm_head.weight"),
    ],
)
def test_connectors_that_do_not_fit_are_refused(
    tiny_folder: Path, flux: Path, tmp_path: Path, weights: dict[str, Tensor], named: str
) -> None:
    torch.save(weights, tmp_path / "some.bin")
    with pytest.raises(InputError, match=named):
        build_new_model(config(tiny_folder, flux, connector_weights=(str(tmp_path / "some.bin"),)))


def test_every_published_layout_of_flux_edits(tiny_folder: Path, flux: Path, tmp_path: Path) -> None:
    schnell = write_flux(tmp_path / "FLUX.1-schnell", guidance_embeds=False, shifting=False)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    cases = {
        "dev": config(tiny_folder, flux, text_encoders=True, t5_length=16),
        "schnell": config(tiny_folder, schnell),
        "kontext": config(tiny_folder, flux, takes_reference_latents=True),
    }
    for name, case in cases.items():
        model = build_new_model(case)
        model.save_pretrained(tmp_path / name)
        pipeline = UnifiedEditPipeline(load_for_inference(tmp_path / name))
        first = UnifiedEditPipeline(model)("make it red", [picture], steps=2)
        # A mapped file's weights are aligned otherwise, by which a CPU kernel may round.
        assert np.abs(pipeline("make it red", [picture], steps=2).astype(int) - first).max() <= 1
        guided = [pipeline("make it red", [picture], steps=2, guidance=scale) for scale in (1.0, 9.0)]
        assert np.array_equal(*guided) == (name == "schnell")
        assert model.core.conditioner.pooled.abs().sum() > 0


def test_a_vlm_with_tied_embeddings_loads_as_the_3b_does(
    tiny: UnifiedEditModel, tiny_folder: Path, flux: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    settings = tiny.tower.vlm.config.to_dict() | {"tie_word_embeddings": True}
    vlm = Qwen2_5_VLForConditionalGeneration(type(tiny.tower.vlm.config).from_dict(settings))
    vlm.save_pretrained(tmp_path / "vlm")
    for file in (tiny_folder / "processor").iterdir():
        (tmp_path / "vlm" / file.name).write_bytes(file.read_bytes())
    model = build_new_model(config(tiny_folder, flux, vlm=str(tmp_path / "vlm")))
    inputs = model.processor(["Make it red"], [[]])
    expected = vlm.eval().model(input_ids=inputs.input_ids).last_hidden_state
    torch.testing.assert_close(model.features(inputs).vlm_states, expected, atol=1e-6, rtol=0)


def test_assemble_and_convert_release_write_models_that_edit(
    tiny: UnifiedEditModel, tiny_folder: Path, flux: Path, tmp_path: Path
) -> None:
    parts = ["--siglip", tiny_folder / "siglip", "--flux", flux]
    assembled = run("assemble", tmp_path / "new", "--vlm", tiny_folder / "vlm", *parts, "--reference-latents")
    assert assembled.exit_code == 0, assembled.exception
    assert "conditioner" in assembled.stdout
    release = write_release(tmp_path / "release", tiny, release_state(tiny))
    converted = run("convert-release", release, tmp_path / "converted", *parts, "--text-encoders")
    assert converted.exit_code == 0, converted.exception
    assert "not read: 4 tensors denoise_tower.vae_projector.*" in converted.stdout
    for name in ("new", "converted"):
        pipeline = UnifiedEditPipeline.from_pretrained(tmp_path / name, dtype=torch.bfloat16)
        assert pipeline("a red boat", [], steps=1, height=32, width=32).shape == (32, 32, 3)
    assert load_for_inference(tmp_path / "new").takes_reference_latents
    refusals = [
        run("assemble", tmp_path / "new", "--vlm", tiny_folder / "vlm", *parts),
        run("convert-release", release, tmp_path / "other", "--siglip", "./nowhere", "--flux", flux),
        run("assemble", tmp_path / "other", "--vlm", tiny_folder / "vlm", *parts, "--conditioner", "mpl"),
    ]
    assert all(isinstance(refusal.exception, EditmillError) for refusal in refusals)
    assert isinstance(refusals[2].exception, ConfigError)
