"""The mask report: numbers that add up for any rows, the right rows shown, over runs and over shards."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from pair_files import editmill, lines_of, write_config, write_pairs

from jobs.config import PipelineConfig
from jobs.pipeline import RunReport, run_pipeline
from jobs.report.mask_figures import figures_of
from jobs.report.mask_page import mask_page
from jobs.report.mask_rows import MaskRow, rows_of_run, rows_of_shards
from jobs.run_folder import RunFolder
from jobs.run_manifest import read_run_manifest
from pipelines.shards.read import open_packed
from schemas.config import parse_config, read_yaml
from schemas.masks import MaskStatus

COMPARED = [{"masks": {"recipe": "seed", "compare": "uniworld"}}]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pairs(tmp_path_factory.mktemp("reported") / "pairs")
    lines = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["source"] = None if number % 4 == 3 else f"set <{number % 2}>"
    lines.append({"reference": "nowhere.png", "target": "0-after.png", "instruction": "none"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def run(path: Path) -> RunReport:
    return run_pipeline(parse_config(PipelineConfig, read_yaml(path), path.name), where=path.name)


def table_of(page: str, title: str) -> list[list[str]]:
    """The cells of the table under a heading, headings first."""
    part = page.split(f"<h2>{title}</h2>")[1].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", part, re.S)
    return [[re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def check_sums(table: list[list[str]]) -> None:
    numbers = [[int(cell) for cell in row[1:]] for row in table[1:]]
    assert all(sum(row[:-1]) == row[-1] for row in numbers)
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]


def test_a_run_and_its_shards_tell_the_same(pairs: Path, tmp_path: Path) -> None:
    run(write_config(tmp_path / "kept.yaml", pairs, steps=COMPARED, pack=None))
    run(write_config(tmp_path / "packed.yaml", pairs, steps=COMPARED))
    pages = [(tmp_path / name / "masks-report.html").read_text() for name in ("kept", "packed")]
    assert pages[0].replace("run kept", "") == pages[1].replace("run packed", "")
    assert "masks-report.html" in (tmp_path / "kept" / "report.html").read_text()
    statuses = table_of(pages[0], "Status by source")
    check_sums(statuses)
    assert statuses[-1][-1] == "13" and statuses[0][0] == "source"
    assert {"ok kept", "unchanged rejected"} <= set(statuses[0])
    assert {row[0] for row in statuses[1:]} == {"set &lt;0&gt;", "set &lt;1&gt;", "not told", "all"}
    check_sums(table_of(pages[0], "Status by seed and by uniworld"))
    # An unchanged pair was rejected; uniworld takes the whole image, and the page shows both.
    rejected = pq.read_table(tmp_path / "kept" / "outcomes").to_pylist()
    [first, *_] = [row["key"] for row in rejected if row["reason"] == "unchanged"]
    shown = pages[0].split(f"<code>{first}</code>")[1].split("</article>")[0]
    assert "unchanged rejected" in shown and "uniworld: unchanged 100 %" in shown and shown.count("<img") == 4
    assert "<script" not in pages[0] and not re.search(r'src="(?!data:)', pages[0])

    # The least confident cannot be told for a recipe without a confidence; with robust they can.
    assert "have no confidence" in pages[0] and "least confident" not in pages[0]
    done = editmill("masks", pairs, "--output", tmp_path / "robust")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "robust" / "masks-report.html").read_text()
    assert "least confident" in page and "disagreements" not in page

    shards = tmp_path / "packed" / "shards"
    refused = editmill("masks", shards, "--report")
    assert refused.returncode == 2 and "--output" in refused.stderr
    done = editmill("masks", shards, "--report", "--output", tmp_path / "look", "--weighting", "linear")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "look" / "masks-report.html").read_text()
    assert table_of(page, "Status by source")[-1][-1] == "8" and "w(x) = x (linear)" in page
    assert [row.key for row in rows_of_shards(open_packed(shards))] == [
        row.key
        for row in rows_of_run(read_run_manifest(tmp_path / "kept"), RunFolder(tmp_path / "kept"))
        if not row.reason
    ]


def test_another_weighting_rewrites_the_page_and_nothing_else(pairs: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "run.yaml", pairs, steps=COMPARED)
    run(config)
    before = (tmp_path / "run" / "shards" / "manifest.json").stat().st_mtime_ns
    values = {**yaml.safe_load(config.read_text()), "report": {"weighting": "exponential_root", "max_weight": 32}}
    config.write_text(yaml.safe_dump(values))
    assert not run(config).did_work
    page = (tmp_path / "run" / "masks-report.html").read_text()
    assert "at most 32 (exponential_root)" in page
    assert (tmp_path / "run" / "shards" / "manifest.json").stat().st_mtime_ns == before
    done = editmill("masks", tmp_path / "run", "--report")
    assert done.returncode == 0 and "(logarithmic)" in (tmp_path / "run" / "masks-report.html").read_text()


def test_what_cannot_be_reported_is_said(pairs: Path, tmp_path: Path) -> None:
    run(write_config(tmp_path / "plain.yaml", pairs, steps=[], pack=None))
    assert not (tmp_path / "plain" / "masks-report.html").exists()
    for arguments, says in (
        ([tmp_path / "plain", "--report"], "is of a run without masks"),
        ([pairs, "--report"], "manifest"),
        ([pairs, "--report", "--recipe", "seed"], "--recipe"),
        ([pairs], "--output"),
        ([pairs, "--output", tmp_path / "x", "--weighting", "heavy"], "heavy"),
    ):
        done = editmill("masks", *arguments)
        assert done.returncode == 2 and len(lines_of(done)) == 1 and says in done.stderr
    assert not (tmp_path / "x").exists()


def strange_rows(seed: int, count: int) -> list[MaskRow]:
    chance = random.Random(seed)
    statuses = [status.value for status in MaskStatus]
    rows = []
    for _ in range(count):
        status: str | None = chance.choice([*statuses, None])
        reason = chance.choice([status, "marked_bad", None]) if status else "image_corrupt"
        compared: dict[str, Any] = {
            "recipe": "uniworld",
            "recipe_version": 1,
            "mask_status": chance.choice(statuses),
            "edited_fraction": chance.random(),
            "iou": chance.choice([0.0, 0.5, 1.0]),
        }
        measured = status is not None and reason != "marked_bad"
        rows.append(
            MaskRow(
                f"{chance.getrandbits(128):032x}",
                chance.choice(["a", "b", None]),
                status if measured or reason is None else None,
                reason,
                chance.random() if measured else None,
                round(chance.random(), 1) if measured and chance.random() < 0.8 else None,
                "robust" if measured else None,
                {"compare": compared} if measured and chance.random() < 0.7 else {},
            )
        )
    return rows


@pytest.mark.parametrize("seed", range(8))
def test_any_rows_add_up_whatever_their_order(seed: int) -> None:
    rows = strange_rows(seed, 40 * seed)
    figures = figures_of(iter(rows), limit=5)
    assert figures.rows == len(rows) and figures.kept == sum(row.reason is None for row in rows)
    confident = [row for row in rows if row.confidence is not None]
    assert sum(map(len, figures.confidences.values())) == len(confident)
    assert figures.cross.total() == len(figures.ious) == sum(row.compared is not None for row in rows)
    assert figures.least_confident == sorted(confident, key=lambda row: (row.confidence, row.key))[:5]
    worst = sorted(row.compared["iou"] for row in rows if row.compared and row.compared["iou"] < 1)[:5]
    assert [row.compared["iou"] for row in figures.disagreeing if row.compared][: len(worst)] == worst
    random.Random(seed).shuffle(rows)
    again = figures_of(rows, limit=5)
    assert (again.statuses, again.cross) == (figures.statuses, figures.cross)
    assert (again.least_confident, again.disagreeing) == (figures.least_confident, figures.disagreeing)


def test_a_report_without_rows_to_show_is_a_page() -> None:
    assert "Status by source" in mask_page(figures_of([]), {}, "nothing")
    many = [MaskRow(f"{number:032x}", f"set {number}", None, "image_corrupt", None, None, None) for number in range(90)]
    check_sums(table_of(mask_page(figures_of(many), {}, "many"), "Status by source"))
