"""Marks set on the page in a real browser: by keyboard and mouse, kept, downloaded and merged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from page_visit import CARDS, Visit

from pipelines.preview.page import page_identity


def test_the_keyboard_steps_marks_and_undoes(visit: Visit) -> None:
    assert visit.current() == 4
    visit.press("j", "ArrowRight")
    assert visit.current() == 3
    visit.press("k")
    assert visit.current() == 1
    visit.press("g")
    assert visit.current() == 3, "after a mark the next one is current"
    visit.press("b", "u")
    assert visit.page.locator("article[data-marked]").count() == 3
    visit.press("z")
    assert visit.current() == 0 and visit.page.locator("article[data-marked]").count() == 2
    visit.page.uncheck("#advance")
    visit.press("b", "u", "u")
    assert visit.current() == 0 and visit.page.locator("#card-0[data-marked]").count() == 0, "again takes a mark away"
    assert {line["key"]: line["mark"] for line in visit.marks().values()} == {CARDS[1].key: "good", CARDS[3].key: "bad"}
    visit.press("?")
    assert visit.page.locator("#help").is_visible()
    visit.press("g", "?")
    assert not visit.page.locator("#help").is_visible() and len(visit.marks()) == 2


def test_what_was_marked_leaves_a_view_of_the_unmarked(visit: Visit) -> None:
    visit.page.click("#marks [data-value=unmarked]")
    visit.press("f", "g")
    assert visit.shown() == [1, 3, 0, 2] and visit.current() == 1
    assert visit.page.inner_text("#focus-title") == "winter"
    visit.press("z")
    assert visit.shown() == [4, 1, 3, 0, 2] and visit.current() == 4


def test_marks_and_notes_outlive_a_reload_and_are_downloaded_whole(visit: Visit) -> None:
    visit.press("b", "g", "n")
    visit.page.keyboard.type("g is a letter here")
    visit.press("Enter")
    visit.page.reload()
    assert visit.page.locator("#download").inner_text().startswith("download 3 marks")
    expected = {
        CARDS[place].key: {
            "key": CARDS[place].key, "mark": mark, "title": "pairs",
            "status": CARDS[place].status, "recipe": CARDS[place].recipe,
        }
        for place, mark in ((4, "bad"), (1, "good"), (3, "unsure"))
    }  # fmt: skip
    expected[CARDS[3].key]["note"] = "g is a letter here"
    assert visit.marks() == expected
    assert visit.page.input_value("#card-3 .note") == "g is a letter here"


def test_one_is_warned_before_leaving_with_marks_that_were_not_downloaded(visit: Visit) -> None:
    asked: list[str] = []
    visit.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    visit.page.click("#card-4 h2")
    visit.page.reload()
    assert asked == []
    visit.page.click("#card-4 [data-mark=bad]")
    visit.page.reload()
    assert asked == ["beforeunload"]
    visit.marks()
    visit.page.reload()
    assert asked == ["beforeunload"]


def test_a_marks_file_is_merged(visit: Visit, tmp_path: Path) -> None:
    visit.press("g", "g", "g")
    foreign = {"key": "f" * 32, "mark": "bad", "status": "ok", "colour": "kept as it came"}
    lines = [
        {"key": CARDS[4].key, "mark": "bad", "note": "second thoughts"}, {"key": CARDS[0].key, "mark": "bad"},
        {"key": CARDS[0].key, "mark": "unsure"}, foreign, {"key": CARDS[2].key, "mark": "splendid"},
    ]  # fmt: skip
    written = tmp_path / "marks.jsonl"
    written.write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n\n", encoding="utf-8")
    visit.page.set_input_files("#file", written)
    visit.page.wait_for_selector("#toast:has-text('2 not readable')")
    marks = visit.marks()
    expected = {
        CARDS[4].key: "bad",
        CARDS[1].key: "good",
        CARDS[3].key: "good",
        CARDS[0].key: "unsure",
        "f" * 32: "bad",
    }
    assert {key: line["mark"] for key, line in marks.items()} == expected
    assert marks[CARDS[4].key]["note"] == "second thoughts" and marks["f" * 32] == foreign


def test_a_browser_that_stores_nothing_still_marks(browser: Any, page_file: Path) -> None:
    context = browser.new_context()
    context.add_init_script(
        "for (const name of ['getItem', 'setItem']) Storage.prototype[name] = () => { throw new DOMException('no'); };"
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"file://{page_file}")
    page.keyboard.press("g")
    assert page.locator("article[data-marked=good]").count() == 1 and wrong == []
    assert "keeps nothing" in page.inner_text("#toast")
    context.close()


def test_a_page_knows_itself_by_its_masks() -> None:
    assert page_identity(CARDS) == page_identity([*reversed(CARDS)])
    assert page_identity(CARDS) == page_identity([replace(item, weight=9.0, text="other") for item in CARDS])
    assert page_identity(CARDS) != page_identity([replace(CARDS[0], fraction=0.21), *CARDS[1:]])
    assert page_identity(CARDS) != page_identity(CARDS[1:])
