"""Marks of a curator go back through the command line: what they reject, what they leave, and what they met."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chain_parts import tree
from pair_files import editmill, lines_of, write_config, write_pairs

from jobs.config import PipelineConfig
from jobs.marks_met import Fate, marks_met
from jobs.pipeline import RunReport, run_pipeline
from jobs.run_folder import RunFolder
from jobs.run_manifest import read_run_manifest
from pipelines.review.marks import Mark, Marked, read_marks
from pipelines.review.step import Review, ReviewConfig
from schemas.config import parse_config, read_yaml
from schemas.errors import InputError

STRANGE = "f" * 32


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("reviewed") / "pairs")


@pytest.fixture(scope="module")
def masked(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "masked"
    done = editmill("masks", pairs, "--output", folder, "--recipe", "seed")
    assert done.returncode == 0, done.stderr
    return folder


def table(folder: Path, name: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((folder / name).iterdir())])


def keys(folder: Path, name: str = "records") -> list[str]:
    found: list[str] = table(folder, name)["key"].to_pylist()
    return found


def write_marks(path: Path, *marks: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(mark) + "\n" for mark in marks))
    return path


def run(path: Path) -> RunReport:
    return run_pipeline(parse_config(PipelineConfig, read_yaml(path), path.name), where=path.name)


def test_bad_rows_are_rejected_with_the_note_and_the_masks_stay(masked: Path, pairs: Path, tmp_path: Path) -> None:
    good, bad, unsure, *rest = keys(masked)
    marks = write_marks(
        tmp_path / "marks.jsonl",
        {"key": bad, "mark": "good", "title": "ignored"},
        {"key": good, "mark": "good"},
        {"key": unsure, "mark": "unsure", "note": "too soft?"},
        {"key": STRANGE, "mark": "bad"},
        {"key": bad, "mark": "bad", "note": "the mask\nmisses the hat", "status": "ok"},
    )
    done = editmill("masks", masked, "--review", marks, "--output", tmp_path / "reviewed")
    assert done.returncode == 0, done.stderr
    assert "4 marks (1 good, 2 bad, 1 unsure); 1 rows rejected by them; 1 met no row" in done.stdout
    assert STRANGE in done.stdout
    before = table(masked, "records")
    after = table(tmp_path / "reviewed", "records")
    assert after.equals(before.filter(pa.array([key != bad for key in keys(masked)])))
    [outcome] = table(tmp_path / "reviewed", "outcomes").to_pylist()
    assert (outcome["key"], outcome["step"], outcome["reason"]) == (bad, "review", "marked_bad")
    assert outcome["sentence"] == "marked bad by hand: the mask misses the hat"
    assert json.loads(outcome["evidence"]) == {"mark": "bad", "note": "the mask misses the hat"}
    page = (tmp_path / "reviewed" / "report.html").read_text()
    assert "What the curator" in page and "marked bad" in page

    # From the pairs themselves the same rows come out; unsure ones go by choice.
    options = ["--review", marks, "--unsure", "reject", "--recipe", "seed"]
    assert editmill("masks", pairs, *options, "--output", tmp_path / "raw").returncode == 0
    assert keys(tmp_path / "raw") == [good, *rest]
    reasons = table(tmp_path / "raw", "outcomes")["reason"].to_pylist()
    assert sorted(reasons) == [
        "image_format_unknown",
        "marked_bad",
        "marked_unsure",
        "unchanged",
        "unchanged",
        "unchanged",
    ]


def test_shards_are_reviewed_as_they_are(masked: Path, tmp_path: Path) -> None:
    assert editmill("pack", masked, "--output", tmp_path / "shards", cwd=tmp_path).returncode == 0
    first, *rest = keys(masked)
    marks = write_marks(tmp_path / "marks.jsonl", {"key": first, "mark": "bad"})
    done = editmill("masks", tmp_path / "shards", "--review", marks, "--output", tmp_path / "reviewed")
    assert done.returncode == 0, done.stderr
    assert sorted(keys(tmp_path / "reviewed")) == sorted(rest)
    stored = {row["key"]: row["mask"]["bytes"] for row in table(masked, "records").to_pylist()}
    for row in table(tmp_path / "reviewed", "records").to_pylist():
        assert row["mask"]["bytes"] == stored[row["key"]] and row["mask_recipe"] == "seed"
    assert "marked bad rejected" in (tmp_path / "reviewed" / "masks-report.html").read_text()


def test_an_option_for_masks_builds_them_anew(masked: Path, tmp_path: Path) -> None:
    marks = write_marks(tmp_path / "marks.jsonl", {"key": keys(masked)[0], "mark": "bad"})
    done = editmill("masks", masked, "--review", marks, "--recipe", "uniworld", "--output", tmp_path / "anew")
    assert done.returncode == 0, done.stderr
    assert set(table(tmp_path / "anew", "records")["mask_recipe"].to_pylist()) == {"uniworld"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", r"line 2 = '\{': is no JSON"),
        ("[1]", r"line 2 = '\[1\]': is JSON, but no object"),
        ('{"mark": "bad"}', r"line 2: key = None: must be 32"),
        ('{"key": "ABC", "mark": "bad"}', r"line 2: key = 'ABC': must be 32"),
        (f'{{"key": "{STRANGE}", "mark": "awful"}}', r"line 2: mark = 'awful': must be one of good, bad, unsure"),
        (f'{{"key": "{STRANGE}", "mark": ["bad"]}}', r"line 2: mark"),
        (f'{{"key": "{STRANGE}", "mark": "bad", "note": 3}}', r"line 2: note = 3: must be a text"),
    ],
)
def test_a_line_that_is_no_mark_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "marks.jsonl"
    path.write_text(f'{{"key": "{STRANGE}", "mark": "good"}}\n{line}\n')
    with pytest.raises(InputError, match=says):
        read_marks(path)


def test_a_wrong_marks_file_stops_the_run_before_it_begins(masked: Path, pairs: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text("no mark\n")
    output = tmp_path / "never"
    for arguments in (["--review", broken], ["--review", tmp_path / "none"], ["--unsure", "reject"]):
        done = editmill("masks", pairs, *arguments, "--output", output)
        assert done.returncode == 2 and len(lines_of(done)) == 1
        assert not output.exists()


def test_marks_are_read_as_people_save_them(tmp_path: Path) -> None:
    path = tmp_path / "marks.jsonl"
    text = f'\ufeff{{"key": "{STRANGE}", "mark": "bad", "note": "a\u2028b"}}\r\n\r\n  \n'
    path.write_bytes(text.encode())
    assert read_marks(path) == {STRANGE: Marked(Mark.BAD, "a b")}
    path.write_text("")
    assert read_marks(path) == {}


def test_only_what_marks_change_is_done_again(pairs: Path, tmp_path: Path) -> None:
    marks = write_marks(tmp_path / "marks.jsonl")
    steps = [{"masks": {"recipe": "seed"}}, {"review": {"marks": str(marks)}}]
    config = write_config(tmp_path / "run.yaml", pairs, steps=steps)
    first = run(config)
    assert first.did_work
    rows = pq.read_table(tmp_path / "run" / "shards" / "index.parquet")["key"].to_pylist()
    deltas = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "steps").glob("01-masks/*.delta.parquet")}

    write_marks(marks, {"key": rows[0], "mark": "good"})
    same = run(config)
    assert not same.did_work and same.marks[0].of(Mark.GOOD, Fate.KEPT) == 1
    write_marks(marks, {"key": rows[0], "mark": "bad"}, {"key": STRANGE, "mark": "bad"})
    changed = run(config)
    assert changed.did_work and changed.kept == first.kept - 1
    assert changed.marks[0].without_row == (STRANGE,)
    assert {path: path.stat().st_mtime_ns for path in deltas} == deltas
    (tmp_path / "fresh").mkdir()
    fresh = write_config(tmp_path / "fresh" / "run.yaml", pairs, steps=steps)
    run(fresh)
    assert tree(tmp_path / "run", "outcomes", "shards") == tree(tmp_path / "fresh" / "run", "outcomes", "shards")


@pytest.mark.parametrize("seed", range(6))
def test_any_marks_add_up(masked: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    every = [*keys(masked), *keys(masked, "outcomes"), *(f"{chance.getrandbits(128):032x}" for _ in range(4))]
    chosen = chance.sample(every, chance.randrange(len(every)))
    lines = [{"key": key, "mark": chance.choice(list(Mark)).value} for key in chosen for _ in range(2)]
    chance.shuffle(lines)
    marks = write_marks(tmp_path / "marks.jsonl", *lines)
    step = Review(ReviewConfig(marks=marks, unsure=chance.choice(["keep", "reject"])))
    rows = table(masked, "records")
    result = step(rows)
    assert result.kept.num_rows + result.rejected.num_rows == rows.num_rows
    last = {line["key"]: line["mark"] for line in lines}
    refused = {"bad", "unsure"} if step.config.unsure == "reject" else {"bad"}
    assert result.kept["key"].to_pylist() == [key for key in rows["key"].to_pylist() if last.get(key) not in refused]
    met = marks_met(step, read_run_manifest(masked), RunFolder(masked))
    assert met.of() == len(last) and len(met.without_row) == met.of(fate=Fate.NO_ROW)
    assert met.of(fate=Fate.KEPT) == len(set(last) & set(keys(masked)))
    assert met.of(fate=Fate.ELSEWHERE) == len(set(last) & set(keys(masked, "outcomes")))


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_two_workers_write_the_same_bytes(pairs: Path, tmp_path: Path) -> None:
    some = write_marks(tmp_path / "none.jsonl")
    steps = [{"masks": {"recipe": "seed", "compare": "uniworld"}}, {"review": {"marks": str(some)}}]
    run(write_config(tmp_path / "look.yaml", pairs, pack=None, steps=steps))
    first, second, *_ = keys(tmp_path / "look")
    marks = write_marks(tmp_path / "marks.jsonl", {"key": first, "mark": "bad"}, {"key": second, "mark": "unsure"})
    options = ["--recipe", "seed", "--compare", "uniworld", "--review", marks, "--unsure", "reject"]
    trees = []
    for name, runner in (
        ("here", []),
        ("one", ["--runner", "ray", "--workers", "1"]),
        ("two", ["--runner", "ray", "--workers", "2"]),
    ):
        done = editmill("masks", pairs, *options, *runner, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
        trees.append(tree(tmp_path / name, "records", "outcomes"))
        # The page too is the same but for the folder's name in its heading.
        trees[-1]["page"] = (tmp_path / name / "masks-report.html").read_bytes().replace(f"run {name}".encode(), b"")
    assert trees[0] == trees[1] == trees[2]
