"""An exported folder is a whole model, and other libraries edit with it where editmill cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from schemas.atomic import sha256_of
from schemas.errors import InputError
from unified_model.export import export_model
from unified_model.model import UnifiedEditModel
from unified_model.pipeline import UnifiedEditPipeline

BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("schemas", "pipelines", "unified_model", "trainer", "jobs"):
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Blocker())
"""

CALL = """
pictures = [Image.open(name) for name in sys.argv[2:]]
edit(sys.argv[1], pictures, " make it red", 48, 64, steps=2, seed=3).save("theirs.png")
"""


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    generator, paths = np.random.default_rng(0), []
    for number, size in enumerate(((48, 64), (96, 128))):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(paths[-1])
    return paths


@pytest.mark.slow
@pytest.mark.parametrize(("takes_reference_latents", "prompt_version"), [(False, 1), (True, 2)])
def test_the_readme_edits_without_editmill(
    tiny_folder: Path, tmp_path: Path, pictures: list[Path], takes_reference_latents: bool, prompt_version: int
) -> None:
    model = UnifiedEditModel.from_pretrained(tiny_folder)
    model.takes_reference_latents = takes_reference_latents
    model.processor.prompt_version = prompt_version
    model.save_pretrained(tmp_path / "base")
    model.save_core(tmp_path / "run" / "raw")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "--output", str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    # A reference of the result's own size is not resampled, by whichever method.
    shown = pictures[:1] if takes_reference_latents else pictures
    ours = UnifiedEditPipeline.from_pretrained(tmp_path / "model")(
        "make it red", [np.asarray(Image.open(path)) for path in shown], 48, 64, steps=2, seed=3
    )
    readme = (tmp_path / "model" / "README.md").read_text()
    (example,) = (block.partition("```")[0] for block in readme.split("```python\n")[1:])
    (tmp_path / "theirs.py").write_text(BLOCKED + example + CALL)
    command = [sys.executable, "theirs.py", "model", *(path.name for path in shown)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = np.asarray(Image.open(tmp_path / "theirs.png")).astype(int)
    assert np.abs(theirs - ours).max() <= 1


def test_an_export_is_a_whole_model_that_may_be_moved(tiny_folder: Path, tmp_path: Path) -> None:
    model = UnifiedEditModel.from_pretrained(tiny_folder)
    model.save_core(tmp_path / "core")
    folder = export_model(tmp_path / "core", tmp_path / "model")
    for part in ("vlm", "siglip", "vae", "transformer", "conditioner", "processor", "scheduler"):
        for path in (tiny_folder / part).iterdir():
            assert sha256_of(folder / part / path.name) == sha256_of(path)
    folder.rename(tmp_path / "moved")
    UnifiedEditModel.from_pretrained(tmp_path / "moved")
    (tmp_path / "moved" / "README.md").read_text().index("| `vlm_connector.up.weight` | 192 x 64 |")
    with pytest.raises(InputError, match="already"):
        export_model(tmp_path / "core", tmp_path / "moved")
    assert not list(tmp_path.glob(".*.partial"))
