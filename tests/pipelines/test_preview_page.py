"""The page in a real browser: what is sorted, filtered and compared there, without a server or a network."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from page_visit import BLUE, CARDS, RED, STEPS, Visit, card, flat, visited, write_page
from PIL import Image

from pipelines.preview.card import Card, Pair, Panel


def test_the_file_names_no_resource_outside_itself(page_file: Path) -> None:
    html = page_file.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href|srcset|action|poster)\s*=\s*["']?\s*(?:https?:|//)""", html)
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_least_confident_comes_first_and_every_order_sorts(visit: Visit) -> None:
    assert visit.shown() == [4, 1, 3, 0, 2]
    orders = {
        "confidence": [4, 1, 3, 0, 2], "fraction": [3, 2, 0, 4, 1], "weight": [0, 4, 1, 3, 2],
        "status": [0, 2, 3, 1, 4], "source": [1, 3, 4, 0, 2], "position": [0, 1, 2, 3, 4],
    }  # fmt: skip
    for name, order in orders.items():
        visit.page.select_option("#sort", name)
        assert visit.shown() == order, name
    visit.page.select_option("#sort", "fraction")
    visit.page.click("#direction")
    assert visit.shown() == [1, 4, 0, 2, 3]
    visit.page.select_option("#sort", "confidence")
    visit.page.click("#direction")
    assert visit.shown() == [0, 3, 1, 4, 2], "a sample without the value is last either way round"


def test_every_filter_shows_exactly_what_it_says(browser: Any, page_file: Path) -> None:
    asked = {
        "status=global": {1}, "status=global&status=ok": {0, 1, 2}, "source=two": {0}, "source=%28none%29": {2},
        "edit_type=style": {1, 4}, "recipe=seed": {3}, "confidence=0.3..0.7": {1, 3}, "confidence=..0.1": {4},
        "fraction=..0.004": {2, 3}, "fraction=0.2..0.6": {0, 4}, "text=HAT": {0, 4}, "text=hat+red": {0},
        f"text={CARDS[3].key[-9:]}": {3}, "mark=good": set(), "mark=unmarked": {0, 1, 2, 3, 4},
        "status=ok&confidence=0..1": {0}, "text=zebra": set(), "nonsense=1&sort=nonsense": {0, 1, 2, 3, 4},
    }  # fmt: skip
    with visited(browser, page_file) as visit:
        for fragment, positions in asked.items():
            visit.page.evaluate("fragment => { location.hash = fragment; }", fragment)
            visit.page.wait_for_timeout(30)
            assert set(visit.shown()) == positions, fragment
            assert visit.page.is_visible("#nothing") == (not positions), fragment
            assert visit.page.inner_text("#count").startswith(
                f"{len(positions)} of 5" if len(positions) < 5 else "5 samples"
            )


def test_filters_set_by_hand_stand_in_the_address_and_are_cleared(visit: Visit) -> None:
    page = visit.page
    page.click("#statuses [data-value=ok]")
    assert set(visit.shown()) == {0, 2} and "status=ok" in visit.fragment()
    page.click("#statuses [data-value=misaligned]")
    assert set(visit.shown()) == {0, 2, 4}
    page.click("[data-menu=source] summary")
    page.check("[data-menu=source] input[value=three]")
    assert visit.shown() == [4]
    page.uncheck("[data-menu=source] input[value=three]")
    page.click("[data-menu=fraction] summary")
    page.fill("[data-menu=fraction] input >> nth=0", "15")
    assert set(visit.shown()) == {0, 4}
    page.fill("[data-menu=fraction] input >> nth=1", "20")
    assert visit.shown() == [0] and "fraction=0.15..0.2" in visit.fragment()
    page.fill("#text", "blue")
    assert visit.shown() == []
    page.click("#nothing button")
    assert set(visit.shown()) == {0, 1, 2, 3, 4} and visit.fragment() == ""
    visit.press("/")
    page.keyboard.type("hat")
    assert set(visit.shown()) == {0, 4}, "letters typed into a field are no commands"


def picture_of(visit: Visit, selector: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(visit.page.locator(selector).screenshot())).convert("RGB"))


def share_of_red(visit: Visit, selector: str) -> float:
    """Share of the reference's colour in one row of the stage: how far the slider shows it."""
    row = picture_of(visit, selector)
    row = row[round(len(row) * 0.9)].astype(int)
    red, blue = (row[:, 0] > row[:, 2] + 60).sum(), (row[:, 2] > row[:, 0] + 60).sum()
    return float(red / (red + blue))


def test_the_slider_follows_the_mouse_and_the_keyboard(visit: Visit) -> None:
    visit.press("c")
    stage = f"#card-{visit.current()} .stage"
    assert share_of_red(visit, stage) == pytest.approx(0.5, abs=0.03)
    box = visit.page.locator(stage).bounding_box()
    middle = box["y"] + box["height"] / 2
    visit.page.mouse.move(box["x"] + box["width"] / 2, middle)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] * 0.25, middle, steps=4)
    visit.page.mouse.up()
    visit.page.mouse.move(box["x"] + box["width"] * 0.8, middle)
    assert share_of_red(visit, stage) == pytest.approx(0.25, abs=0.03)
    before = visit.current()
    visit.press(*["ArrowRight"] * 10)
    assert share_of_red(visit, stage) == pytest.approx(0.35, abs=0.03) and visit.current() == before
    assert visit.page.get_attribute(f"{stage} input", "aria-valuetext") == "35 % reference"


def test_the_slider_follows_a_finger(browser: Any, page_file: Path) -> None:
    with visited(browser, page_file, "#slider=on", has_touch=True) as visit:
        stage = visit.page.locator(f"#card-{visit.current()} .stage")
        box = stage.bounding_box()
        visit.page.touchscreen.tap(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.5)
        assert share_of_red(visit, f"#card-{visit.current()} .stage") == pytest.approx(0.75, abs=0.03)


def test_the_mask_is_laid_over_and_the_picture_enlarged_about_the_mouse(visit: Visit) -> None:
    visit.press("f", "3")
    stage = "#focus-stage .stage"
    assert (picture_of(visit, stage)[:, :, 2] > 150).mean() > 0.5
    plain = picture_of(visit, stage)
    visit.press("m")
    outlined = picture_of(visit, stage)
    pink = (outlined[..., 0] > 200) & (outlined[..., 1] < 120) & (outlined[..., 2] > 90)
    assert 0.001 < pink.mean() < 0.1 and not np.array_equal(plain, outlined)
    visit.press("m")
    assert (picture_of(visit, stage)[..., 0] > 90).mean() > 0.1, "the region is tinted, not only outlined"
    box = visit.page.locator(stage).bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.page.mouse.wheel(0, -400)
    visit.page.wait_for_timeout(100)
    assert int(visit.page.inner_text("#focus-zoom").removesuffix(" %")) > 150
    visit.press("0")
    assert visit.page.inner_text("#focus-zoom") == "100 %"
    visit.press("x")
    assert share_of_red(visit, stage) == 0.0
    visit.press("x")
    assert share_of_red(visit, stage) == 1.0
    visit.press("Escape")
    assert not visit.page.locator("#focus").is_visible()


def test_one_key_unfolds_the_steps_of_all_in_their_order(visit: Visit) -> None:
    assert visit.page.locator("details.steps[open]").count() == 0
    visit.press("s")
    assert visit.page.locator("details.steps[open]").count() == len(CARDS)
    assert visit.page.locator("#card-4 .steps figcaption strong").all_inner_texts() == list(STEPS)
    visit.page.wait_for_function("document.querySelector('#card-4 .steps img').naturalWidth === 80")
    assert "steps=on" in visit.fragment()
    visit.press("s")
    assert visit.page.locator("details.steps[open]").count() == 0


def test_several_references_are_chosen_from(browser: Any, tmp_path: Path) -> None:
    path = write_page(tmp_path, [card(0, references=3)], "t", "s")
    with visited(browser, path, "#slider=on") as visit:
        assert visit.page.inner_text(".stage .tag.left") == "reference 1"
        before = visit.page.get_attribute(".stage img.before", "src")
        visit.page.click("article .compare button >> nth=2")
        assert visit.page.inner_text(".stage .tag.left") == "reference 3"
        assert visit.page.get_attribute(".stage img.before", "src") != before
        visit.press("f", "r")
        assert visit.page.inner_text("#focus .tag.left") == "reference 2"


def test_a_pair_without_a_mask_is_compared_all_the_same(browser: Any, tmp_path: Path) -> None:
    pair = Pair((flat(RED),), flat(BLUE), None)
    refused = card(0, "size_mismatch", None, pair=pair, confidence=None, weight=None)
    path = write_page(tmp_path, [refused, card(1)])
    with visited(browser, path, "#slider=on&mask=tint&status=size_mismatch") as visit:
        assert visit.shown() == [0]
        assert share_of_red(visit, "#card-0 .stage") == pytest.approx(0.5, abs=0.03)
        visit.press("f")
        assert not visit.page.is_visible("#focus-overlay") and visit.page.is_visible("#focus .handle")
        assert share_of_red(visit, "#focus-stage .stage") == pytest.approx(0.5, abs=0.03)


HOSTILE = '</script><img src=x onerror="window.harmed = 1"><script>window.harmed = 2</script> {{ 7 * 7 }} <!--'


def test_hostile_text_does_nothing(browser: Any, tmp_path: Path) -> None:
    hostile = card(0, HOSTILE, text=HOSTILE, source=HOSTILE, edit_type=HOSTILE, recipe=HOSTILE)
    hostile = replace(
        hostile, facts=((HOSTILE, HOSTILE),), panels=(Panel(HOSTILE, flat(RED), (((1, 2, 3), HOSTILE),)),)
    )
    cards = [hostile, card(1, text="tame")]
    path = write_page(tmp_path, cards, HOSTILE, HOSTILE)
    with visited(browser, path) as visit:
        visit.press("j", "k", "n")
        visit.page.keyboard.type(HOSTILE)
        visit.press("Enter", "f", "s", "m")
        assert visit.page.inner_text("#focus-title") == HOSTILE
        assert visit.page.evaluate("window.harmed") is None
        assert all(not url.endswith("/x") for url in visit.requests)
        visit.press("Escape")
        assert visit.marks()[hostile.key]["note"] == HOSTILE


def test_a_page_of_captions_asks_for_no_marks(browser: Any, tmp_path: Path) -> None:
    captions = [Card(f"{n:032x}", f"caption {n}", None, None, (), (Panel("image", flat(RED)),)) for n in range(3)]
    path = write_page(tmp_path, captions, "captions", "three")
    with visited(browser, path, "#sort=confidence") as visit:
        assert visit.shown() == [0, 1, 2] and visit.page.locator("[data-mark], #download, #slider, #steps").count() == 0
        visit.press("g", "j", "f", "j", "Escape", "s", "c", "m", "?", "?")
        assert visit.current() == 2
        visit.press("k", "Tab", "Tab")
        assert visit.current() == 2, "the card that Tab comes into is the current one"


@pytest.mark.slow
def test_five_hundred_samples_stay_usable(browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    photographs = [
        np.array(Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)).resize((512, 512)))
        for _ in range(8)
    ]
    mask = np.zeros((512, 512), bool)
    mask[100:300, 200:420] = True
    cards = []
    for number in range(500):
        shown = [photographs[(number + place) % 8] for place in range(3)]
        panels = tuple(map(Panel, ("reference", "target", "mask over target"), shown))
        pair = Pair((shown[0],), shown[1], mask)
        cards.append(replace(card(number, confidence=float(generator.random())), panels=panels, pair=pair))
    path = write_page(tmp_path, cards, "pairs", "many")
    started = perf_counter()
    with visited(browser, path) as visit:
        visit.page.wait_for_function("document.querySelector('article[aria-current] img').naturalWidth === 512")
        loaded = perf_counter()
        visit.press("j", "g", "c", "s", "m")
        visit.page.select_option("#sort", "fraction")
        visit.page.fill("#text", cards[499].key[-6:])
        assert visit.shown() == [499]
        acted = perf_counter()
        size = path.stat().st_size / 2**20
        told = f"first picture after {loaded - started:.2f} s, seven acts {acted - loaded:.2f} s"
        with capsys.disabled():
            sys.stdout.write(f"\n500 samples, {size:.0f} MiB: {told}\n")


def test_a_long_name_without_a_space_wraps_in_the_list_and_in_the_large_view(browser: Any, tmp_path: Path) -> None:
    page = write_page(
        tmp_path, [replace(card(number), facts=(("target", "a_very_long_name/" * 12),)) for number in range(2)]
    )
    with visited(browser, page) as visit:
        wide = "element => element.scrollWidth > element.clientWidth"
        assert not visit.page.eval_on_selector("html", wide)
        visit.press("f")
        visit.page.wait_for_selector("#focus[open]")
        assert not visit.page.eval_on_selector(".focus-side", wide)
