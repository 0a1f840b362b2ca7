"""A preview page opened in a real browser: cards made by hand, and a visit that keeps what went wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.preview.card import Card, Pair, Panel
from pipelines.preview.page import preview_page

RED, BLUE = (230, 20, 30), (20, 40, 220)
STEPS = ("difference", "threshold", "closing", "components", "pooled")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def flat(colour: tuple[int, int, int], height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def card(number: int, status: str = "ok", fraction: float | None = 0.1, text: str = "paint it", **fields: Any) -> Card:
    mask = np.zeros((60, 80), bool)
    mask[10:30, 20:60] = True
    references = tuple(flat((230, 20, 30 + shade)) for shade in range(fields.pop("references", 1)))
    panels = (
        Panel("reference", references[0]),
        Panel("target", flat(BLUE)),
        Panel("weight map", flat(RED, 6, 8), (), True),
    )
    steps = tuple(Panel(title, flat((9 * place, 0, 0))) for place, title in enumerate(STEPS))
    values = {
        "confidence": 0.5, "weight": 2.0, "source": "one", "edit_type": "add", "recipe": "robust",
        "pair": Pair(references, flat(BLUE), mask), **fields,
    }  # fmt: skip
    return Card(f"{number:032x}", text, status, fraction, (), panels, steps, **values)


CARDS = [
    card(0, confidence=0.9, weight=3.0, fraction=0.2, source="two", text="a red hat"),
    card(1, "global", 1.0, confidence=0.3, weight=1.0, edit_type="style", text="winter"),
    card(2, confidence=None, weight=None, fraction=0.004, source=None, text="earrings"),
    card(3, "unchanged", 0.0, confidence=0.7, weight=1.0, recipe="seed", text="nothing"),
    card(4, "misaligned", 0.6, confidence=0.1, weight=1.7, source="three", edit_type="style", text="a blue hat"),
]


class Visit:
    """One page in a context of its own, with all that went wrong there."""

    def __init__(self, browser: Any, path: Path, fragment: str = "", **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1300, "height": 800}, **options)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = f"file://{path}"
        self.page.goto(self.address + fragment)

    def shown(self) -> list[int]:
        """Positions of the cards that are shown, from above."""
        return self.page.eval_on_selector_all(
            "article:not([hidden])", "cards => cards.map(card => Number(card.dataset.position))"
        )

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def current(self) -> int:
        return int(self.page.get_attribute("article[aria-current]", "data-position"))

    def marks(self) -> dict[str, dict[str, object]]:
        """What the downloaded file holds."""
        with self.page.expect_download() as waiting:
            self.page.click("#download")
        assert waiting.value.suggested_filename == "marks.jsonl"
        lines = [json.loads(line) for line in Path(waiting.value.path()).read_text().splitlines()]
        assert len({line["key"] for line in lines}) == len(lines)
        return {line["key"]: line for line in lines}

    def fragment(self) -> str:
        self.page.wait_for_timeout(250)
        return self.page.evaluate("location.hash")


@contextmanager
def launched() -> Iterator[Any]:
    """A browser of this machine; skips the tests where there is none. Nothing is ever downloaded."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: apt install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def visited(browser: Any, path: Path, fragment: str = "", **options: Any) -> Iterator[Visit]:
    """A visit that must end without an error in the console and without a request to anywhere."""
    visit = Visit(browser, path, fragment, **options)
    yield visit
    assert visit.wrong == []
    assert [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    visit.context.close()


def write_page(folder: Path, cards: list[Card], title: str = "pairs", subtitle: str = "some") -> Path:
    """A page of `cards` in `folder`."""
    path = folder / "preview.html"
    path.write_text(preview_page(cards, title, subtitle, 3.0), encoding="utf-8")
    return path
