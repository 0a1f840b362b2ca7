"""The published hub names, resolved by the libraries from a cache of theirs that was filled by hand: no network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from flux_layout import write_flux
from huggingface_hub import constants
from release_layout import release_state, write_release
from typer.testing import CliRunner

from jobs.cli import app
from schemas.errors import InputError
from unified_model.loading import load_for_inference
from unified_model.model import UnifiedEditModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REDUX = "flux-redux-siglipv2-512.bin"


def snapshot(cache: Path, name: str) -> Path:
    """Where the hub's cache keeps the files of a repository."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots").mkdir()
    return repository / "snapshots" / COMMIT


def test_both_commands_understand_the_published_names(
    tiny: UnifiedEditModel, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shutil.copytree(tiny_folder / "vlm", snapshot(hub, "Qwen/Qwen2.5-VL-7B-Instruct"))
    shutil.copytree(tiny_folder / "siglip", snapshot(hub, "google/siglip2-so400m-patch16-512"))
    write_flux(snapshot(hub, "black-forest-labs/FLUX.1-dev"))
    release = write_release(snapshot(hub, "LanguageBind/UniWorld-V1"), tiny, release_state(tiny))
    connector = tiny.core.conditioner.siglip_connector.state_dict()
    names = {"up": "siglip_projector.0", "down": "siglip_projector.2"}
    torch.save(
        {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": connector[key] for key in connector}, release / REDUX
    )
    calls = [
        (
            "assemble",
            tmp_path / "new",
            "--dtype",
            "float32",
            "--connector-weights",
            f"LanguageBind/UniWorld-V1/{REDUX}",
        ),
        ("convert-release", "LanguageBind/UniWorld-V1", tmp_path / "converted", "--text-encoders"),
    ]
    for call in calls:
        done = CliRunner().invoke(app, [str(part) for part in call])
        assert done.exit_code == 0, done.exception
    filled = load_for_inference(tmp_path / "new").core.conditioner.siglip_connector.state_dict()
    assert all(torch.equal(filled[name], value) for name, value in connector.items())
    assert load_for_inference(tmp_path / "converted").text.t5 is not None
    done = CliRunner().invoke(app, ["assemble", str(tmp_path / "other"), "--vlm", "Qwen/Qwen2.5-VL-3B-Instruct"])
    assert isinstance(done.exception, InputError)
    assert "Qwen/Qwen2.5-VL-3B-Instruct" in str(done.exception)
    assert not (tmp_path / "other").exists()
