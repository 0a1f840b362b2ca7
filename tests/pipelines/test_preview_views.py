"""Overlay, weight map, sampling, sheet and page: what they show is what is there."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.preview.card import EditLook, Panel, edit_card, image_card, percent, shrink_pair, weight_top
from pipelines.preview.contact_sheet import TALLEST_SHEET, contact_sheets
from pipelines.preview.overlay import MASK_COLOUR, heat_colour, heat_map, mask_over
from pipelines.preview.page import preview_page
from pipelines.preview.picture import montage, shrink_mask
from pipelines.preview.sampling import choose
from pipelines.preview.sheet_text import face, wrap
from pipelines.preview.strip import edit_strip
from pipelines.preview.weight_view import colour_weights, view_weights, weight_colour
from schemas.masks import max_pool
from schemas.weighting import WEIGHTINGS, region_weight, weight_map

EVIL = "<script>alert(1)</script> & \"quotes\" <img src='https://example.org/x.png'>"


def make_look(
    height: int = 120, width: int = 200, references: int = 1, status: str = "ok", instruction: str = "Paint it green"
) -> EditLook:
    generator = np.random.default_rng(height * 1000 + width)
    picture = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 4 : width // 2] = status != "unchanged"
    target, small = shrink_pair(picture, mask)
    return EditLook(
        "ab12" * 8, instruction, status, float(mask.mean()), (("type", "recolour"),), (picture,) * references, target,
        small, view_weights(mask, "logarithmic"),
    )  # fmt: skip


@pytest.mark.parametrize("name", list(WEIGHTINGS))
def test_the_weights_shown_are_those_of_the_loss(name: str) -> None:
    mask = np.zeros((75, 130), bool)
    mask[20:33, 40:61] = True
    view = view_weights(mask, name, 40.0)
    assert view is not None
    cells = max_pool(mask)
    assert np.array_equal(view.weights, weight_map(cells, name, 40.0))
    assert view.edited_weight == pytest.approx(float(region_weight(name, cells.size / cells.sum(), 40.0)))
    assert view.cell_fraction == cells.mean()


def test_the_legend_names_the_weight_and_shows_its_colour() -> None:
    look = make_look()
    assert look.weights is not None
    card = edit_card(look, weight_top([look]))
    panel = card.panels[-1]
    assert panel.legend[0][1] == f"w = {look.weights.edited_weight:.2f} edited"
    edited = look.weights.weights > 1
    assert np.all(panel.picture[edited] == panel.legend[0][0])
    assert np.all(panel.picture[~edited] == panel.legend[1][0])


def test_equal_ratios_of_weight_are_told_apart_and_grow_brighter() -> None:
    brightness = [sum(weight_colour(weight, 16.0)) for weight in (1, 2, 4, 8, 16)]
    assert brightness == sorted(set(brightness))
    assert colour_weights(np.ones((3, 4)), 1.0).shape == (3, 4, 3)


def test_a_mask_below_one_cell_has_no_weights_and_still_a_card() -> None:
    look = make_look(5, 7)
    assert look.weights is None
    card = edit_card(look, 1.0)
    assert [panel.title for panel in card.panels] == ["reference", "target", "mask over target"]


def test_the_overlay_outlines_the_region_and_greys_the_rest() -> None:
    picture = np.full((60, 80, 3), (200, 40, 40), np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[10:40, 20:60] = True
    drawn = mask_over(picture, mask).astype(int)
    assert tuple(drawn[10, 20]) == tuple(drawn[39, 59]) == MASK_COLOUR
    assert np.ptp(drawn[5, 5]) < 80 < np.ptp(drawn[25, 40])
    assert np.array_equal(mask_over(picture, np.zeros_like(mask)), np.broadcast_to(drawn[0, 0], picture.shape))


def test_an_edit_that_is_easily_missed_is_ringed() -> None:
    picture = np.full((300, 300, 3), 90, np.uint8)
    mask = np.zeros((300, 300), bool)
    mask[150, 150] = True
    ringed = (mask_over(picture, mask) == MASK_COLOUR).all(axis=2)
    assert ringed.sum() > 20


def test_shrinking_a_mask_loses_no_pixel() -> None:
    mask = np.zeros((997, 1313), bool)
    mask[503, 700] = True
    assert shrink_mask(mask, 33, 41).sum() == 1


def test_the_difference_is_black_where_equal_and_grows_brighter() -> None:
    heat = heat_map(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert tuple(heat[0, 0]) == heat_colour(0) and max(heat_colour(0)) < 8
    assert sum(heat_colour(12)) > sum(heat_colour(0)) + 60, "what a recipe's threshold lets pass is seen"
    brightness = np.asarray([sum(heat_colour(level)) for level in range(0, 256, 15)])
    assert np.all(np.diff(brightness) > 0)


@pytest.mark.parametrize("sizes", [[(30, 90)], [(90, 30)] * 3, [(50, 50), (20, 200), (200, 20), (8, 8), (70, 60)]])
def test_a_montage_fills_exactly_its_box(sizes: list[tuple[int, int]]) -> None:
    pictures = [np.full((*size, 3), 10 + number, np.uint8) for number, size in enumerate(sizes)]
    drawn = montage(pictures, 100, 140, 4, (0, 0, 0))
    assert drawn.shape == (100, 140, 3)
    assert set(np.unique(drawn)) == {0, *(10 + number for number in range(len(sizes)))} or len(sizes) == 1


def test_sampling_is_seeded_and_shows_every_status() -> None:
    strata = ["ok"] * 9_990 + ["unchanged"] * 7 + ["global"] * 3
    first = choose(strata, 12, seed=0)
    assert first == choose(strata, 12, seed=0) == sorted(set(first))
    assert first != choose(strata, 12, seed=1)
    assert {strata[position] for position in first} == {"ok", "unchanged", "global"}
    assert sum(strata[position] == "ok" for position in first) == 10
    assert choose(strata[:5], 12, seed=0) == [0, 1, 2, 3, 4]
    assert choose([], 12, seed=0) == []
    assert choose([None] * 20, 3, seed=5) == choose([None] * 20, 3, seed=5)


@given(
    st.lists(st.tuples(st.sampled_from(["ok", "global", None]), st.none() | st.floats(0, 1)), max_size=60),
    st.integers(1, 70),
    st.integers(0, 5),
)
def test_sampling_shows_as_many_as_there_are_and_none_twice(
    samples: list[tuple[str | None, float | None]], count: int, seed: int
) -> None:
    chosen = choose([one for one, _ in samples], count, seed, [area for _, area in samples])
    assert len(chosen) == len(set(chosen)) == min(count, len(samples)) and chosen == sorted(chosen)
    assert {samples[one][0] for one in chosen} == {one for one, _ in samples} or count < 3


@pytest.mark.parametrize(("count", "least", "most"), [(10, 1, 1), (25, 2, 3), (7, 0, 1), (40, 4, 4)])
def test_sampling_spreads_a_status_over_the_deciles_of_its_edited_area(count: int, least: int, most: int) -> None:
    areas = np.random.default_rng(3).permutation(1000) / 1000.0
    for seed in range(20):
        chosen = choose(["ok"] * 1000, count, seed, areas.tolist())
        shown = np.bincount((areas[chosen] * 10).astype(int), minlength=10)
        assert shown.sum() == count and shown.min() >= least and shown.max() <= most


def test_every_decile_is_as_likely_to_be_shown_as_any_other() -> None:
    areas = (np.arange(104) / 104.0).tolist()
    chosen = [one for seed in range(300) for one in choose(["ok"] * 104, 3, seed, areas)]
    shown = np.bincount(np.asarray(chosen) * 10 // 104, minlength=10)
    assert shown.sum() == 900 and shown.min() > 60 and shown.max() < 125


def test_sampling_favours_no_part_of_the_shards() -> None:
    chosen = [position for seed in range(200) for position in choose([None] * 100, 5, seed)]
    counts = np.bincount(np.asarray(chosen) // 10, minlength=10)
    assert counts.sum() == 1000 and counts.min() > 60 and counts.max() < 145


def test_wrapped_text_fits_and_says_when_it_was_cut() -> None:
    lines = wrap("a long instruction with many words " * 5 + "x" * 200, 20, 180, 4)
    assert len(lines) == 4 and lines[-1].endswith("…")
    assert all(face(20).getlength(line) <= 180 for line in lines)
    assert wrap("", 20, 180, 3) == [""]


@pytest.mark.parametrize(("fraction", "text"), [(0, "0 %"), (1, "100 %"), (0.217, "21.7 %"), (4.4e-5, "0.0044 %")])
def test_a_small_share_is_never_told_as_none(fraction: float, text: str) -> None:
    assert percent(fraction) == text


def test_the_sheet_takes_any_shape_and_several_references() -> None:
    looks = [make_look(40, 700), make_look(700, 40, 3), make_look(64, 64, 2, "unchanged"), make_look(5, 7)]
    top = weight_top(looks)
    cards = [edit_card(look, top) for look in looks]
    [sheet] = contact_sheets(cards, "shards", "4 of 4", top)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert sheet.shape[1] > 1500 and sheet.shape[0] > 700
    [one] = contact_sheets([image_card("ab" * 16, "a caption", (), looks[0].target)], "t", "s")
    assert one.shape[1] >= 760
    with pytest.raises(ValueError, match="at least one"):
        list(contact_sheets([], "t", "s"))


def test_five_hundred_samples_stand_on_sheets_that_a_viewer_opens() -> None:
    card = edit_card(make_look(), 4.0)
    sheets = [sheet.shape for sheet in contact_sheets([card] * 12, "t", "s", 4.0, tallest=1200)]
    assert len(sheets) > 2 and all(height <= 1200 for height, _, _ in sheets)
    assert len({width for _, width, _ in sheets}) == 1
    assert [len(list(contact_sheets([card] * 3, "t", "s", tallest=10)))] == [3], "a sheet has one sample at least"
    assert TALLEST_SHEET < 16_384


def test_a_card_without_steps_leaves_their_columns_free() -> None:
    panel = Panel("difference", np.full((120, 200, 3), 200, np.uint8))
    with_steps = edit_card(replace(make_look(), steps=(panel,) * 5), 4.0)
    [wide] = contact_sheets([with_steps, edit_card(make_look(), 4.0)], "t", "s")
    [short] = contact_sheets([with_steps, edit_card(make_look(), 4.0)], "t", "s", with_steps=False)
    assert wide.shape[1] == 2 * 44 + 300 + 9 * 230 - 14 and short.shape[1] == 2 * 44 + 300 + 4 * 334 - 14
    refused = edit_card(replace(make_look(), mask=None, fraction=None, weights=None, status="size_mismatch"), 4.0)
    assert [one.title for one in refused.panels] == ["reference", "target"]
    assert refused.pair is not None and refused.pair.mask is None, "what has no mask can be compared all the same"
    [mixed] = contact_sheets([refused, with_steps], "t", "s")
    assert mixed.shape[1] == wide.shape[1]


@pytest.mark.parametrize("columns", [3, 4, 5])
def test_a_strip_is_no_wider_than_the_terminal(columns: int) -> None:
    panel = Panel("components", np.full((120, 200, 3), 200, np.uint8))
    for look in (make_look(120, 200, 3), make_look(200, 30), make_look(5, 7)):
        for with_steps in (False, True):
            rows = edit_strip(replace(look, steps=(panel,) * 5), 8.0, 100, columns, with_steps)
            assert all(row.picture.shape[1] <= 100 for row in rows)
            assert len({row.picture.shape[0] for row in rows}) == 1
            titles = [title for row in rows for title in row.titles]
            assert titles.count("components") == 5 * with_steps and all(len(row.titles) <= columns for row in rows)
            assert all(len(row.heading(1)) <= 100 for row in rows)


class Resources(HTMLParser):
    """Collects tags, and whatever a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_the_page_is_self_contained_and_escapes_what_the_data_says() -> None:
    looks = [make_look(instruction=EVIL), make_look(status="unchanged")]
    top = weight_top(looks)
    html = preview_page([edit_card(look, top) for look in looks], EVIL, "two", top)
    seen = Resources()
    seen.feed(html)
    assert seen.tags.count("script") == 2 + len(looks) and seen.tags.count("article") == len(looks)
    assert seen.loaded and all(value.startswith("data:image/") for value in seen.loaded)
    assert "<script>alert" not in html
    script = html.rsplit("<script>", 1)[1].split("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in html, "the page's policy allows its own script, and no other"
    assert not re.search(r"url\(\s*['\"]?http|@import", html)


def test_a_page_of_captions_has_no_scale_and_no_marks() -> None:
    html = preview_page([image_card("ab" * 16, EVIL, (), make_look().target)], "captions", "one")
    assert 'class="scale"' not in html and "data-mark=" not in html and "<script>alert" not in html
