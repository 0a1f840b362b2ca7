"""The report page: self-contained, escaped, with charts that show every point they can."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from jobs.report.charts import bars_svg, curve_svg, histogram_svg
from jobs.report.counts import StageCounts
from jobs.report.page import render_report
from jobs.report.sections import Bars, Curve, Figures, Histogram, Notice, Strip, Strips, Table, Text, counts_section
from pipelines.preview.picture import encode_jpeg, encode_png
from schemas.axes import linear_ticks, log_ticks, thin, tick_text

EVIL = "<script>alert(1)</script>"


def test_every_section_is_on_one_self_contained_page() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    html = render_report(
        EVIL,
        f"one\n\ntwo {EVIL}",
        [
            Text(f"prose {EVIL}", EVIL),
            Notice("small models, random weights", "Mind"),
            counts_section([StageCounts("masks", 10, 7, {"image_corrupt": 2, EVIL: 1})]),
            Table([EVIL, "n"], [[EVIL, 12345], [None, 0.5]], EVIL),
            Figures([(encode_png(picture), EVIL), (encode_jpeg(picture), "photo")]),
            Curve({EVIL: [(0, 1.0), (1, 0.5)], "b": [(0, 2.0)]}, EVIL, "loss"),
            Bars({EVIL: 3.0}, EVIL),
            Histogram([0.1, 0.2, 0.9], EVIL, name=EVIL, more={EVIL * 2: [0.3]}),
            Strips([EVIL, "b"], [Strip(EVIL, [EVIL], EVIL, [encode_jpeg(picture), None])], EVIL, EVIL),
        ],
    )
    assert "<script" not in html
    assert "12,345" in html and "–" in html and "adds up" in html
    loaded = re.findall(r"(?:src|href)=[\"']?([^\"' >]+)", html)
    assert len(loaded) >= 2 and all(value.startswith(("data:image/", "#")) for value in loaded)
    assert not re.search(r"url\(|@import", html)


def test_stacked_bars_are_as_high_as_all_their_values_together() -> None:
    values, more = [0.1, 0.1, 0.6], [0.1, 0.9]
    stacked, outside = histogram_svg(Histogram(values, "x", 4, (0.0, 1.0), name="kept", more={"rejected": more}))
    plain, _ = histogram_svg(Histogram([*values, *more], "x", 4, (0.0, 1.0)))
    assert outside == 0

    def heights(svg: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for bar in ElementTree.fromstring(svg).findall("rect"):
            found[bar.attrib["x"]] = found.get(bar.attrib["x"], 0.0) + float(bar.attrib["height"])
        return found

    assert heights(stacked) == pytest.approx(heights(plain), abs=0.2)
    assert "0 to 0.25: 2 kept" in stacked and "0 to 0.25: 1 rejected" in stacked


def test_counts_that_do_not_add_up_are_marked() -> None:
    html = render_report("t", "", [counts_section([StageCounts("masks", 10, 7, {"image_corrupt": 2})])])
    assert "✗ does not add up" in html and "✓" not in html


def test_a_curve_draws_each_point_where_its_value_says() -> None:
    svg, left_out = curve_svg(Curve({"loss": [(0, 4.0), (1, 2.0), (2, 1.0)]}, "step", "loss"))
    root = ElementTree.fromstring(svg)
    points = [tuple(map(float, pair.split(","))) for pair in root.findall("polyline")[0].attrib["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert left_out == 0
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y1 - y0) == pytest.approx(2 * (y2 - y1), abs=0.3) and y0 < y1 < y2
    log, _ = curve_svg(Curve({"loss": [(0, 4.0), (1, 2.0), (2, 1.0)]}, "step", "loss", log_y=True))
    line = ElementTree.fromstring(log).findall("polyline")[0].attrib["points"]
    heights = [float(pair.split(",")[1]) for pair in line.split()]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.3)


def test_what_cannot_be_drawn_breaks_the_line_and_is_told() -> None:
    curve = Curve({"loss": [(0, 1.0), (1, math.nan), (2, 3.0), (3, 2.0), (4, math.inf)]}, "step", "loss")
    svg, left_out = curve_svg(curve)
    root = ElementTree.fromstring(svg)
    assert left_out == 2 and len(root.findall("circle")) == 1 and len(root.findall("polyline")) == 1
    assert "2 points could not be drawn" in render_report("t", "", [curve])
    assert curve_svg(Curve({"loss": [(0, -1.0)]}, "step", "loss", log_y=True))[1] == 1
    assert curve_svg(Curve({}, "step", "loss"))[1] == 0


def test_a_histogram_counts_every_value_or_tells_of_it() -> None:
    values = np.random.default_rng(0).random(500).tolist()
    svg, outside = histogram_svg(Histogram(values, "f", bins=10, bounds=(0.0, 0.5)))
    counted = [int(text.rsplit(": ", 1)[1]) for text in re.findall(r"<title>([^<]*)</title>", svg)]
    assert sum(counted) + outside == 500 and outside == sum(value > 0.5 for value in values)
    for odd in ([], [0.3], [0.3] * 4):
        ElementTree.fromstring(histogram_svg(Histogram(odd, "f"))[0])


def test_bars_are_as_long_as_their_values() -> None:
    root = ElementTree.fromstring(bars_svg(Bars({"a": 4.0, "b": 1.0, "none": 0.0})))
    widths = [float(bar.attrib["width"]) for bar in root.findall("rect")]
    assert widths[0] == pytest.approx(4 * widths[1], rel=0.01) and widths[2] == 0
    ElementTree.fromstring(bars_svg(Bars({})))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 7), (0.001, 0.0042), (1e6, 5e9), (5, 5)])
def test_ticks_are_round_inside_and_few(low: float, high: float) -> None:
    ticks = linear_ticks(low, high)
    assert 1 <= len(ticks) <= 11 and all(low - 1e-9 <= tick <= high * (1 + 1e-9) for tick in ticks)
    assert len({tick_text(tick) for tick in ticks}) == len(ticks)
    if low > 0:
        assert all(low <= tick <= high for tick in log_ticks(low, high))


def test_a_thinned_curve_keeps_its_spikes_and_its_order() -> None:
    points = [(float(step), 1.0) for step in range(50_000)]
    points[31_234] = (31_234.0, 99.0)
    thinned = thin(points)
    assert len(thinned) <= 1300 and (31_234.0, 99.0) in thinned and thinned == sorted(thinned)


def test_wrong_pictures_and_ragged_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="neither PNG nor JPEG"):
        render_report("t", "", [Figures([(b"GIF89a", "x")])])
    with pytest.raises(ValueError, match="2 columns"):
        render_report("t", "", [Table(["a", "b"], [["1"]])])
