"""What is saved comes back bit for bit, and a folder that cannot be loaded says why.

A loaded model computes to rounding what the saved one does: weights in a mapped file are aligned otherwise, by which a
CPU kernel may round."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.atomic import sha256_of
from schemas.errors import ConfigError, EditmillError, InputError, SchemaVersionError
from unified_model.card import CARD_NAME
from unified_model.conditioners import Widths
from unified_model.config import UnifiedModelConfig
from unified_model.loading import load_for_inference
from unified_model.model import UnifiedEditModel
from unified_model.tiny import build_tiny


def velocity(model: UnifiedEditModel) -> torch.Tensor:
    images = [np.arange(64 * 48 * 3, dtype=np.uint8).reshape(64, 48, 3)]
    features = model.features(model.processor(["Make the sky purple"], [images]))
    with torch.no_grad():
        return model.core(torch.linspace(-2, 2, 16 * 16).view(1, 16, 4, 4), torch.tensor([0.3]), features)


def same_velocity(ours: UnifiedEditModel, expected: torch.Tensor) -> bool:
    return torch.allclose(velocity(ours), expected, rtol=1e-5, atol=1e-6)


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def test_round_trip_is_bit_equal_and_saving_is_deterministic(
    tiny: UnifiedEditModel, tiny_folder: Path, tmp_path: Path
) -> None:
    loaded = UnifiedEditModel.from_pretrained(tiny_folder)
    assert same_velocity(loaded, velocity(tiny))
    pixels = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(loaded.codec.encode(pixels), tiny.codec.encode(pixels))
    loaded.save_pretrained(tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(tiny_folder)
    build_tiny(seed=0).save_pretrained(tmp_path / "rebuilt")
    assert hashes(tmp_path / "rebuilt") == hashes(tiny_folder)
    assert not same_velocity(build_tiny(seed=1), velocity(tiny))


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_tiny()
    assert torch.equal(torch.rand(1), expected)


def test_components_from_other_folders_with_fresh_connectors(
    tiny: UnifiedEditModel, tiny_folder: Path, tmp_path: Path
) -> None:
    config = UnifiedModelConfig(
        **{part: str(tiny_folder / part) for part in ("vlm", "siglip", "transformer", "vae")}, max_pixels=112 * 112
    )
    models = [UnifiedEditModel.from_components(config) for _ in range(2)]
    assert same_velocity(models[0], velocity(models[1]))
    assert not same_velocity(models[0], velocity(tiny))
    assert models[0].processor.vlm_processor.image_processor.size["longest_edge"] == 112 * 112
    with pytest.raises(InputError, match="no folder"):
        UnifiedEditModel.from_components(config.model_copy(update={"vae": "./nowhere"}))
    models[0].core.conditioner.fresh(Widths(64, 48, 32, 32)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="must fit"):
        UnifiedEditModel.from_components(config.model_copy(update={"conditioner": str(tmp_path)}))
    with pytest.raises(ConfigError, match="conditioner_kind"):
        UnifiedEditModel.from_components(config.model_copy(update={"conditioner_kind": "mpl"}))


def test_bfloat16_is_loaded_everywhere(tiny_folder: Path) -> None:
    model = UnifiedEditModel.from_pretrained(tiny_folder, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert velocity(model).dtype == torch.float32
    assert model.codec.encode(torch.zeros(1, 3, 16, 16)).dtype == torch.float32


def test_a_core_belongs_to_its_base(tiny_folder: Path, tmp_path: Path) -> None:
    model = UnifiedEditModel.from_pretrained(tiny_folder)
    with torch.no_grad():
        for parameter in model.core.parameters():
            parameter.mul_(1.25)
    expected = velocity(model)
    model.save_core(tmp_path / "export" / "ema")
    assert not (tmp_path / "export" / "ema" / "vlm").exists()
    assert same_velocity(load_for_inference(tmp_path / "export"), expected)
    assert same_velocity(load_for_inference(tmp_path / "export" / "ema"), expected)
    plain = UnifiedEditModel.from_pretrained(tiny_folder)
    plain.load_core(tmp_path / "export" / "ema")
    assert same_velocity(plain, expected)
    with pytest.raises(InputError, match="raw"):
        load_for_inference(tmp_path / "export", "raw")
    moved = tmp_path / "moved"
    shutil.copytree(tiny_folder, moved)
    card = tmp_path / "export" / "ema" / CARD_NAME
    card.write_text(json.dumps(json.loads(card.read_text()) | {"base": "/nowhere"}))
    with pytest.raises(InputError, match="does not exist"):
        load_for_inference(tmp_path / "export")
    assert same_velocity(load_for_inference(tmp_path / "export", base=moved), expected)


def test_a_model_from_nowhere_has_no_base() -> None:
    with pytest.raises(ConfigError, match="base"):
        build_tiny().save_core("unused")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 99}, SchemaVersionError),
        ({"prompt_version": 99}, SchemaVersionError),
        ({"colour": "red"}, ConfigError),
    ],
)
def test_a_foreign_card_is_refused(tiny_folder: Path, tmp_path: Path, change: dict, error: type[EditmillError]) -> None:
    card = json.loads((tiny_folder / CARD_NAME).read_text())
    (tmp_path / CARD_NAME).write_text(json.dumps(card | {"parts": []} | change))
    with pytest.raises(error):
        UnifiedEditModel.from_pretrained(tmp_path)


def test_a_folder_with_a_part_missing_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "vae")
    with pytest.raises(InputError, match="vae"):
        UnifiedEditModel.from_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=CARD_NAME):
        UnifiedEditModel.from_pretrained(tmp_path)
