"""Tuning: the masks drawn are the masks a run would store, a wrong word changes nothing, and what was found is kept."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pair_files import command, editmill, environment, lines_of, write_pairs

from jobs.samples.open import open_samples
from jobs.tune.commands import HELP, Effect, answer
from jobs.tune.session import TuneSession
from jobs.tune.settings import Settings, parameter_rows, value_text
from pipelines.masks.registry import RECIPES, make_recipe
from pipelines.masks.score import pooled_iou
from schemas.errors import EditmillError
from schemas.images import decode_mask


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("tuned") / "pairs")


def piped(folder: Path, pairs: Path, *arguments: object, lines: str = "") -> subprocess.CompletedProcess[str]:
    words = command("masks", str(pairs), "--tune", *map(str, arguments))
    return subprocess.run(
        words, input=lines, capture_output=True, text=True, cwd=folder, env=environment(), timeout=120
    )


def session_of(pairs: Path, recipe: str = "seed", count: int = 4, **options: object) -> TuneSession:
    session = TuneSession(open_samples(pairs), Settings(recipe), count, **options)  # type: ignore[arg-type]
    session.start()
    return session


def test_lines_from_a_pipe_are_done_one_by_one(pairs: Path, tmp_path: Path) -> None:
    said = ["threshold=60", "", "threshold=999", "recipe magic", "recipe seed", "threshold=40 dilation=5"]
    lines = "\n".join([*said, "save tuned.yaml", "page look", ""])
    done = piped(tmp_path, pairs, "--recipe", "seed", "--count", 5, "--terminal", "blocks", lines=lines)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    errors = lines_of(done)
    assert len(errors) == 2 and "threshold = 999" in errors[0] and "must be one of robust, seed" in errors[1]
    drawn = [line for line in done.stdout.splitlines() if "drawn in" in line]
    assert [line.split(":")[0] for line in drawn] == [
        "seed",
        "seed, threshold=60",
        "seed",
        "seed, threshold=40, dilation=5",
    ]
    assert "IoU before" in done.stdout and "▀" in done.stdout
    page = (tmp_path / "look" / "tune.html").read_text()
    assert "Tuning seed, threshold=40, dilation=5" in page and 'http-equiv="refresh"' not in page

    # What was saved, and the command that is told at the end, are one and the same.
    saved = yaml.safe_load((tmp_path / "tuned.yaml").read_text())
    assert saved == {"steps": [{"masks": {"recipe": "seed", "parameters": {"threshold": 40, "dilation": 5}}}]}
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[:2] == ["editmill", "masks"]
    ran = editmill(*words[1:], cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    config = yaml.safe_load((tmp_path / "runs" / "masked" / "config.yaml").read_text())
    given = saved["steps"][0]["masks"]
    assert config["steps"][0]["masks"]["parameters"] == make_recipe("seed", given["parameters"]).parameters.as_json()


def test_the_command_told_for_images_named_in_pairs_is_one_that_reads_them(pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "named"
    folder.mkdir()
    for side, name in (("before", "cat_src.png"), ("after", "cat_tgt.png")):
        (folder / name).write_bytes((pairs / f"1-{side}.png").read_bytes())
    done = piped(tmp_path, folder, "--recipe", "seed", "--parameter", "threshold=30")
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[1] == "preview" and editmill(*words[1:], cwd=tmp_path).returncode == 0


def test_without_a_line_the_pairs_are_drawn_once(pairs: Path, tmp_path: Path) -> None:
    done = piped(tmp_path, pairs, "--count", 12)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("drawn in") == 1 and "11 pairs" in done.stdout
    assert "not shown" in done.stderr and not list(tmp_path.iterdir())


def test_the_masks_drawn_are_those_that_a_run_stores(pairs: Path, tmp_path: Path) -> None:
    session = session_of(pairs, count=12)
    session.change(session.settings.with_values({"threshold": 60}))
    done = editmill("masks", pairs, *session.settings.options(), "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    stored = pq.read_table(tmp_path / "run" / "records").to_pylist()
    drawn = {one.look.key: one for one in session.drawn}
    assert len(stored) == 8
    for row in stored:
        one = drawn[row["key"]]
        np.testing.assert_array_equal(one.result.mask, decode_mask(row["mask"]["bytes"]))
        assert one.look.status == row["mask_status"] and one.result.edited_fraction == row["edited_fraction"]


def test_each_change_is_held_against_the_masks_before(pairs: Path) -> None:
    session = session_of(pairs)
    first = session.drawn
    assert all(one.iou is None for one in first)
    assert answer(session, "dilation=31 threshold=30").effect is Effect.DRAWN
    assert [one.iou for one in session.drawn] == [
        pooled_iou(new.result.mask, old.result.mask) for new, old in zip(session.drawn, first, strict=True)
    ]
    assert any(one.iou != 1.0 for one in session.drawn)
    answer(session, "defaults")
    for old, new in zip(first, session.drawn, strict=True):
        np.testing.assert_array_equal(old.result.mask, new.result.mask)
    keys = [one.look.key for one in session.drawn]
    answer(session, "next")
    assert session.seed == 1 and [one.look.key for one in session.drawn] != keys
    assert all(one.iou is None for one in session.drawn)


@pytest.mark.parametrize(
    "line",
    [
        "threshold=0",
        "treshold=3",
        "threshold",
        "=3",
        "a=[",
        "recipe",
        "recipe magic",
        "next x",
        "save",
        "save x.txt",
        "'",
    ],
)
def test_a_wrong_line_is_answered_and_changes_nothing(pairs: Path, line: str) -> None:
    session = session_of(pairs, count=2)
    answer(session, "threshold=40")
    before = session.drawn
    with pytest.raises(EditmillError):
        answer(session, line)
    assert session.settings == Settings("seed", {"threshold": 40}) and session.drawn is before


def test_images_are_decoded_once(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(pairs)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("pipelines.masks.step.decode_image", refuse)
    for line in ("threshold=30", "recipe uniworld", "recipe robust", "low_threshold=2 high_threshold=5"):
        assert answer(session, line).effect is Effect.DRAWN
    with pytest.raises(AssertionError):
        answer(session, "next")


def test_a_page_left_open_follows_until_the_end(pairs: Path, tmp_path: Path) -> None:
    session = session_of(pairs, page=tmp_path / "tune.html")
    session.write_page(reloads=True)
    assert session.drawn[0].look.steps and (tmp_path / "tune.html").read_text().count('http-equiv="refresh"') == 1
    session.write_page(reloads=False)
    assert "refresh" not in (tmp_path / "tune.html").read_text().split("</head>")[0].split("<style>")[0]


def test_a_file_that_stands_there_is_not_written_over(pairs: Path, tmp_path: Path) -> None:
    session = session_of(pairs, count=2)
    (tmp_path / "mine.yaml").write_text("mine")
    with pytest.raises(EditmillError, match="stands there already"):
        session.save(tmp_path / "mine.yaml")
    for threshold in (30, 40):
        answer(session, f"threshold={threshold}")
        session.save(tmp_path / "tuned.yaml")
    assert yaml.safe_load((tmp_path / "tuned.yaml").read_text())["steps"][0]["masks"]["parameters"]["threshold"] == 40


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_parameter_is_told_with_its_meaning(recipe: str) -> None:
    rows = parameter_rows(Settings(recipe))
    assert [row.name for row in rows] == list(make_recipe(recipe, {}).parameters_class.model_fields)
    for row in rows:
        assert len(row.doc) > 20 and row.range and row.value == row.default
        assert yaml.safe_load(row.value) == make_recipe(recipe, {}).parameters.as_json()[row.name]
    assert all(word in HELP for word in ("parameters", "next", "save", "page", "defaults", "recipe"))


@pytest.mark.parametrize("value", [True, 3, 0.5, "union", "3", "true", [1, 2], None])
def test_a_value_is_told_as_it_is_typed(value: object) -> None:
    assert yaml.safe_load(value_text(value)) == value


def test_options_that_a_mode_would_leave_unheeded_are_refused(pairs: Path, tmp_path: Path) -> None:
    for arguments, says in (
        (["--tune", "--compare", "seed"], "--compare"),
        (["--tune", "--runner", "ray"], "--runner"),
        (["--tune", "--report"], "--tune"),
        (["--count", "3", "--output", tmp_path / "x"], "--count"),
        (["--tune", "--parameter", "nothing=1"], "nothing"),
        (["--tune", "--weighting", "heavy"], "heavy"),
    ):
        done = editmill("masks", pairs, *arguments)
        assert done.returncode == 2 and len(lines_of(done)) == 1 and says in done.stderr
    assert not (tmp_path / "x").exists()


def test_at_a_terminal_a_mistake_is_no_failure(pairs: Path) -> None:
    keyboard, typed = pty.openpty()
    words = command("masks", str(pairs), "--tune", "--recipe", "seed", "--count", "2", "--terminal", "none")
    with subprocess.Popen(
        words, stdin=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as one:
        os.write(keyboard, b"nonsense\nthreshold=50\n\n")
        told, _ = one.communicate(timeout=240)
    os.close(typed)
    os.close(keyboard)
    text = told.decode()
    assert one.returncode == 0 and "is no command" in text and text.count("drawn in") == 2
    assert text.strip().splitlines()[-1].endswith("--recipe seed --parameter threshold=50 --output runs/masked")
