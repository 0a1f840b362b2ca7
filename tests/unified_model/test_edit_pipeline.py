"""`UnifiedEditPipeline`, and `editmill edit` end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import cli
from schemas.errors import ConfigError
from unified_model.flow import resolution_mu
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.requests import edit_size
from unified_model.sampling import timestep_schedule


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> UnifiedEditPipeline:
    return UnifiedEditPipeline.from_pretrained(tiny_folder)


def test_the_same_seed_gives_the_same_image(pipeline: UnifiedEditPipeline, pictures: list[np.ndarray]) -> None:
    done: list[tuple[int, int]] = []
    first = pipeline("Make it red", pictures[:1], steps=3, progress=lambda *step: done.append(step))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert np.array_equal(first, pipeline("Make it red", pictures[:1], steps=3))
    assert not np.array_equal(first, pipeline("Make it red", pictures[:1], steps=3, seed=1))
    assert pipeline("Make it red", pictures, steps=1, height=32, width=48).shape == (32, 48, 3)


def test_bad_sizes_are_refused(pipeline: UnifiedEditPipeline, pictures: list[np.ndarray]) -> None:
    for wrong in ({"width": 40}, {"height": 8}, {"steps": 0}):
        with pytest.raises(ConfigError):
            pipeline("Make it red", pictures[:1], **wrong)
    with pytest.raises(ConfigError, match="width"):
        pipeline("A red boat", [], height=32)
    assert pipeline("A red boat", [], steps=1, height=32, width=48).shape == (32, 48, 3)


def test_the_default_size_keeps_the_aspect_ratio_under_the_cap() -> None:
    assert edit_size((512, 768), 16, 1024 * 1024) == (512, 768)
    assert edit_size((7, 7), 16, 1024 * 1024) == (16, 16)
    for height, width in ((3000, 4000), (4032, 3024), (1100, 1100), (100, 20000), (1023, 1031)):
        rows, columns = edit_size((height, width), 16, 1024 * 1024)
        assert rows % 16 == columns % 16 == 0
        assert rows * columns <= 1024 * 1024
        assert abs(np.log(rows / columns) - np.log(height / width)) < 0.2


def test_timesteps_are_shifted_by_resolution(pipeline: UnifiedEditPipeline) -> None:
    assert resolution_mu(256) == 0.5
    assert resolution_mu(4096) == pytest.approx(1.15)
    config = pipeline.model.scheduler.config
    small, large = (timestep_schedule(config, 8, tokens).timesteps for tokens in (256, 4096))
    assert small[0] == large[0] == 1000
    assert (large[1:] > small[1:]).all()
    sigma = 0.5
    expected = 1000 * np.exp(1.15) / (np.exp(1.15) + (1 / sigma - 1))
    assert float(large[4]) == pytest.approx(expected, rel=1e-5)


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["editmill", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_editmill_edit_end_to_end(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sideways = Image.fromarray(np.zeros((48, 96, 3), np.uint8))
    exif = sideways.getexif()
    exif[0x0112] = 6
    sideways.save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "b.png")
    call = ["edit", "--checkpoint", tiny_folder, "--instruction", "Put b into a", "--steps", "2", "--device", "cpu"]
    images = ["--image", tmp_path / "a.jpg", "--image", tmp_path / "b.png"]
    for name in ("first.png", "second.png"):
        assert run_cli(monkeypatch, *call, *images, "--output", tmp_path / "out" / name) == 0
    assert (tmp_path / "out" / "first.png").read_bytes() == (tmp_path / "out" / "second.png").read_bytes()
    with Image.open(tmp_path / "out" / "first.png") as edited:
        assert edited.size == (48, 96)
    assert "48 x 96" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [
        {"--checkpoint": "nowhere"},
        {"--image": "missing.png"},
        {"--image": "broken.png"},
        {"--output": "out.tiff"},
        {"--width": "50"},
        {"--device": "cuda:99"},
    ],
)
def test_wrong_calls_end_in_one_line(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: dict[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("a.png")
    Path("broken.png").write_bytes(Path("a.png").read_bytes()[:40])
    options = {
        "--checkpoint": str(tiny_folder),
        "--image": "a.png",
        "--instruction": "Make it red",
        "--output": "out.png",
    }
    arguments = [part for option in (options | wrong).items() for part in option]
    assert run_cli(monkeypatch, "edit", *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert not Path("out.png").exists()
