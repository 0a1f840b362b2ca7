"""`editmill preview` over everything that holds edits: the same pairs, wherever they lie, look the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pair_files import editmill, write_pairs
from PIL import Image
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.preview_job import Preview, PreviewOptions, write_preview
from jobs.samples.open import open_samples
from pipelines.preview.card import Card
from pipelines.preview.sampling import choose

COUNT = 10
"""Pairs: every fifth is unchanged, the last one is broken."""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in (*arguments, "--terminal", "none")])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("sources") / "pairs", COUNT)


@pytest.fixture(scope="module")
def run(pairs: Path) -> Path:
    statuses = [f"--keep-status={status}" for status in ("ok", "unchanged", "global", "too_small", "misaligned")]
    result = CliRunner().invoke(app, ["masks", str(pairs), "--output", str(pairs.parent / "run"), *statuses])
    assert result.exit_code == 0, result.output
    return pairs.parent / "run"


def write_parquet(pairs: Path, path: Path, rows_per_group: int = 4) -> Path:
    rows = []
    for line in (pairs / "pairs.jsonl").read_text().splitlines():
        values = json.loads(line)
        images = {side: {"bytes": (pairs / values[side]).read_bytes(), "path": values[side]} for side in
                  ("reference", "target")}  # fmt: skip
        rows.append({"before": images["reference"], "after": images["target"], "instruction": values["instruction"]})
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=rows_per_group)
    return path


def shown(path: Path, output: Path, columns: dict[str, str] | None = None) -> Preview:
    return write_preview(open_samples(path, columns), output, PreviewOptions(count=50))


def assert_same(cards: tuple[Card, ...], others: tuple[Card, ...]) -> None:
    assert len(cards) == len(others)
    by_key = {card.key: card for card in others}
    for card in cards:
        other = by_key[card.key]
        assert (card.text, card.status, card.fraction, card.confidence) == (
            other.text, other.status, other.fraction, other.confidence,
        )  # fmt: skip
        for one, two in zip((*card.panels, *card.steps), (*other.panels, *other.steps), strict=True):
            assert one.title == two.title and one.legend == two.legend and np.array_equal(one.picture, two.picture)


def test_the_same_pairs_look_the_same_wherever_they_lie(pairs: Path, run: Path, tmp_path: Path) -> None:
    listed = shown(pairs, tmp_path / "a")
    assert len(listed.cards) == COUNT - 1 and {card.status for card in listed.cards} == {"ok", "unchanged"}
    assert all(len(card.steps) == 5 for card in listed.cards)
    table = write_parquet(pairs, tmp_path / "pairs.parquet")
    names = {"references": "before", "target": "after"}
    assert_same(listed.cards, shown(table, tmp_path / "b", names).cards)
    assert_same(listed.cards, shown(run, tmp_path / "c").cards)
    packing = ["pack", str(run), "--output", str(tmp_path / "shards"), "--run-folder", str(tmp_path / "packing")]
    assert CliRunner().invoke(app, packing).exit_code == 0
    kept = tuple(card for card in listed.cards if card.status == "ok")
    for place in (tmp_path / "shards", tmp_path / "packing"):
        assert_same(kept, shown(place, tmp_path / "d").cards)


def test_a_broken_pair_is_told_by_name_and_the_others_are_shown(pairs: Path, tmp_path: Path) -> None:
    result = call("preview", pairs, "--count", 50, "--output", tmp_path / "look")
    assert result.exit_code == 1 and f"{COUNT - 1}-after.png" in result.output
    assert (tmp_path / "look" / "preview.html").is_file()


def test_only_the_rows_that_are_shown_are_read(pairs: Path, tmp_path: Path) -> None:
    path = write_parquet(pairs, tmp_path / "pairs.parquet", rows_per_group=1)
    chosen = choose([None] * COUNT, 3, 5)
    footer = pq.read_metadata(path)
    data = bytearray(path.read_bytes())
    for group in set(range(COUNT)) - set(chosen):
        for column in range(footer.num_columns):
            chunk = footer.row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            data[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(data)
    samples = open_samples(path, {"references": "before", "target": "after"})
    written = write_preview(samples, tmp_path / "look", PreviewOptions(count=3, seed=5))
    assert len(written.cards) + len(written.undecodable) == 3


def test_stored_masks_are_stratified_and_pairs_are_drawn_uniformly(pairs: Path, run: Path) -> None:
    stored, waiting = open_samples(run), open_samples(pairs)
    assert set(stored.statuses()) == {"ok", "unchanged"} and None not in stored.fractions()
    assert set(waiting.statuses()) == {None} and len(waiting) == COUNT and len(stored) == COUNT - 1
    two = choose(stored.statuses(), 2, 0, stored.fractions())
    assert {stored.statuses()[position] for position in two} == {"ok", "unchanged"}


def test_another_recipe_is_tried_on_masks_that_are_stored(run: Path, tmp_path: Path) -> None:
    arguments = ("--recipe", "seed", "--parameter", "threshold=40", "--no-steps", "--output", tmp_path / "look")
    assert call("preview", run, *arguments).exit_code == 0
    html = (tmp_path / "look" / "preview.html").read_text()
    assert "masks built here: seed version" in html
    with Image.open(tmp_path / "look" / "contact-sheet.png") as image:
        assert image.width < 1800, "without the steps"


def test_one_pair_needs_no_file_around_it(pairs: Path, tmp_path: Path) -> None:
    before, after = pairs / "1-before.png", pairs / "1-after.png"
    result = call("preview", "--reference", before, "--reference", before, "--target", after, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "1-after.png" in (tmp_path / "preview.html").read_text()


def test_a_folder_of_images_is_paired_by_name(pairs: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pairs, tmp_path / "images")
    (folder / "pairs.jsonl").unlink()
    (folder / "0-after.png").unlink()
    result = call("preview", folder, "--count", 50, "--output", tmp_path / "look")
    assert result.exit_code == 1, "the broken one"
    assert "left out: 0-before.png" in result.output and f"({COUNT - 1}-after.png)" in result.output
    assert len(open_samples(folder)) == COUNT - 1


def test_pairs_of_other_sizes_and_without_instruction_are_shown(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", 2)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / "1-after.png")
    (folder / "pairs.jsonl").write_text(
        '{"reference": "0-before.png", "target": "0-after.png"}\n'
        '{"reference": "1-before.png", "target": "1-after.png", "instruction": null}\n'
    )
    cards = shown(folder, tmp_path / "look").cards
    assert [card.status for card in cards] == ["unchanged", "size_mismatch"]
    assert {card.text for card in cards} == {"(no instruction)"}


def test_wrong_calls_are_told_before_anything_is_written(pairs: Path, run: Path, tmp_path: Path) -> None:
    image = pairs / "1-after.png"
    for words, arguments in (
        ("nothing to look at", ()),
        ("nothing to look at", ("--target", image)),
        ("does not go with", (pairs, "--reference", image, "--target", image)),
        ("is no file", ("--reference", "nowhere.png", "--target", image)),
        ("--reference BEFORE", (image,)),
        ("does not belong to the source", (run, "--column", "target=after")),
        ("belong to lists", ("--reference", image, "--target", image, "--column", "target=after")),
        ("must be one of", (pairs, "--recipe", "of tomorrow")),
        ("low_threshold", (pairs, "--parameter", "low_thresold=3")),
        ("none of the first", (pairs, "--column", "references=nothing")),
    ):
        result = call("preview", *arguments, "--output", tmp_path / "look")
        assert result.exit_code == 1 and words in str(result.exception), (words, result.exception)
    assert not (tmp_path / "look").exists()


def test_the_real_command_shows_one_pair_and_refuses_in_one_line(pairs: Path, tmp_path: Path) -> None:
    before, after, broken = (pairs / name for name in ("2-before.png", "2-after.png", f"{COUNT - 1}-after.png"))
    done = editmill("preview", "--reference", before, "--target", after, "--terminal", "blocks", cwd=tmp_path)
    assert done.returncode == 0 and "▀" in done.stdout and "components" in done.stdout, done.stderr
    assert (tmp_path / "preview" / "contact-sheet.png").is_file()
    refused = editmill("preview", "--reference", before, "--target", broken, cwd=tmp_path)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and broken.name in refused.stderr


def test_an_earlier_and_larger_preview_leaves_no_sheet_behind(run: Path, tmp_path: Path) -> None:
    for name in ("contact-sheet-2.png", "contact-sheet-3.png"):
        (tmp_path / name).write_bytes(b"old")
    (tmp_path / "mine.png").write_bytes(b"mine")
    written = shown(run, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contact-sheet.png", "mine.png", "preview.html"]
    assert written.sheets == (tmp_path / "contact-sheet.png",)
