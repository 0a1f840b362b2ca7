"""The report of a training run: whole, self-contained, escaped; and its curves."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image
from training_data import config_for, edit_row, pack_rows

from trainer.reporting.charts import Curve, curve_svg, moving_mean
from trainer.reporting.curves import held_out_curves, measure_curves, noise_curves, training_curves
from trainer.reporting.run_report import RunFacts, run_report
from trainer.train import train

EVIL = "<script>alert('x')</script>"


def log(steps: int) -> list[dict[str, Any]]:
    figures = {"loss_inside": None, "gradient_norm": 0.1, "mfu": None, "learning_rate": 0.1}
    return [{"step": step, "loss": 1 / step, **figures} for step in range(1, steps + 1)]


def checks(weights: str = "ema", count: int = 6) -> list[dict[str, Any]]:
    return [
        {"step": 10 * place, "seconds": 2.0, "raw/loss": 1.0, f"{weights}/loss": 0.9, f"{weights}/loss_t0.1": 0.5,
         f"{weights}/loss_t0.9": 0.7, f"{weights}/loss_inside_under_1": 0.4, f"{weights}/copy_rate": 0.0}
        for place in range(count)
    ]  # fmt: skip


class Links(HTMLParser):
    """Collects what a page would fetch, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]


def test_a_chart_is_xml_and_draws_every_series() -> None:
    few = [(float(step), step * 0.5) for step in range(1, 9)]
    many = [(float(step), 1.0 / step) for step in range(1, 5000)]
    root = ElementTree.fromstring(curve_svg(Curve(EVIL, {"few": few, "many": many, "one": [(3.0, 2.0)], "none": []})))
    lines = [element.get("class") for element in root.iter("polyline")]
    assert lines == ["s0 line", "s1 faint", "s1 line"]
    assert [element.get("class") for element in root.iter("circle")].count("s2 dot") == 1
    assert "no points" in curve_svg(Curve("x", {"a": [(1.0, float("nan"))]}))


def test_bounds_hold_also_where_all_is_zero() -> None:
    texts = re.findall(r">([-0-9.,]+)</text>", curve_svg(Curve("x", {"a": [(0, 0.0), (1, 0.0)]}, y_bounds=(0.0, 1.0))))
    assert "1" in texts and not any(text.startswith("-") for text in texts)


def test_a_moving_mean_keeps_a_constant_and_shortens_its_window_at_the_ends() -> None:
    assert moving_mean([(x, 2.0) for x in range(7)], 3) == [(x, 2.0) for x in range(7)]
    assert moving_mean([(0, 0.0), (1, 3.0), (2, 6.0)], 3) == [(0, 1.5), (1, 3.0), (2, 4.5)]


def test_curves_leave_out_what_was_not_logged() -> None:
    assert [curve.title for curve in training_curves(log(5))] == ["Loss"]
    assert {curve.title for curve in measure_curves(log(5))} == {"Gradient norm", "Learning rate"}
    assert training_curves([]) == measure_curves([]) == held_out_curves([]) == noise_curves([]) == []


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_held_out_curves_follow_the_averaged_weights_where_there_are_any(weights: str) -> None:
    curves = {curve.title: curve for curve in held_out_curves(checks(weights))}
    assert list(curves["Inside the edit, by edited area"].series) == ["under 1 % edited"]
    assert curves["Copies of the reference"].series
    (noise,) = noise_curves(checks(weights))
    assert list(noise.series) == ["step 0", "step 20", "step 30", "step 50"]
    assert noise.series["step 0"] == [(0.1, 0.5), (0.9, 0.7)]


def test_a_report_needs_no_validation_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    config = config_for(tmp_path / EVIL.replace("/", "-"), tmp_path, tmp_path / "run").as_json()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log(80))) + '\n{"step": 81, "lo')
    page = run_report(tmp_path, RunFacts([(EVIL, 12345)], finished=False))
    links = Links()
    links.feed(page)
    assert "script" not in links.tags and all(source.startswith("#") for source in links.sources)
    assert "12,345" in page and "stopped at step 80" in page and "data.resolution" in page


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_run_ends_with_a_report_of_itself(tiny_model: Path, tmp_path: Path) -> None:
    rows = [edit_row(number, instruction=f"paint {EVIL} {number}") for number in range(4)]
    folder = pack_rows(tmp_path / "packed", rows)
    validation = {"shards": [str(folder)], "samples": 2, "edits": 2, "sampling_steps": 1}
    config = config_for(tiny_model, folder, tmp_path / "run", steps=2, validation=validation)
    train(config)
    page = (tmp_path / "run" / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert "script" not in links.tags
    assert sum(source.startswith("data:image/jpeg") for source in links.sources) == 2
    assert all(source.startswith(("#", "data:")) for source in links.sources)
    assert links.tags.count("svg") >= 8 and "2 of 2 steps, finished" in page
    assert "held-out samples for the loss" in page and "trainable of" in page
    strips = sorted((tmp_path / "run" / "validation" / "step-000002").glob("*.png"))
    with Image.open(strips[0]) as picture:
        assert picture.width > 900
