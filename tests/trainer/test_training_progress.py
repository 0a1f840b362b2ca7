"""What a run shows of its progress, at any width, and under which names its figures appear."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trainer.reporting.progress import Standing, TrainingProgress, duration, live_lines, plain_line
from trainer.reporting.scalars import OTHER, scalar_name, scalars, validation_name

RECORD = {
    "step": 12345,
    "loss": 0.43217,
    "learning_rate": 1e-5,
    "samples_per_second": 9.134,
    "tokens_per_second": 21504.0,
    "mfu": 0.512,
    "memory_gib": 112.44,
    "keys": "0123456789abcdef",
}
STANDING = Standing(20000, 12345, RECORD, seconds_left=11564.0, next_validation=12500)
TOLD = ("loss 0.4322", "lr 1.0e-05", "9.13 samples/s", "21.5k tokens/s", "MFU 51.2 %", "112.4 GiB", "3:12:44 left",
        "validation at 12,500", "12,345/20,000")  # fmt: skip


@pytest.mark.parametrize(("width", "lines"), [(160, 1), (80, 2)])
def test_everything_is_shown_at_usual_widths(width: int, lines: int) -> None:
    shown = live_lines(STANDING, width)
    assert len(shown) == lines and all(len(line) <= width for line in shown)
    assert all(part in "\n".join(shown) for part in TOLD)
    assert "━" in shown[0] and "─" in shown[0]


@given(st.integers(20, 240), st.integers(0, 20000))
def test_no_line_is_longer_than_the_terminal_is_wide(width: int, step: int) -> None:
    standing = Standing(20000, step, RECORD, 1e6, None, "validating")
    assert all(len(line) <= width for line in live_lines(standing, width))


def test_figures_that_are_not_known_are_left_out() -> None:
    record = {"step": 1, "loss": 0.5, "learning_rate": 1e-4, "samples_per_second": 120.0, "mfu": None}
    line = plain_line(Standing(10, 1, record))
    assert line == "step 1/10  loss 0.5000  lr 1.0e-04  120 samples/s"
    assert plain_line(STANDING).startswith("step 12345/20000  loss") and "\n" not in plain_line(STANDING)


def test_without_a_terminal_there_are_plain_lines() -> None:
    stream = io.StringIO()
    progress = TrainingProgress(Console(file=stream, width=80), 5, 0, every=2, shows=True)
    progress.start()
    for step in range(1, 6):
        progress.step({**RECORD, "step": step}, 4)
    progress.stop()
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["2/5", "4/5", "5/5"]
    assert all("validation at 4" in line and "left" in line for line in lines)


@pytest.mark.parametrize(("seconds", "text"), [
    (-1, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (90061, "1 d 01:01:01"),
])  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("key", "name"), [
    ("loss", "loss/loss"), ("loss_inside", "loss/loss_inside"), ("mean_weight", "weighting/mean_weight"),
    ("gradient_norm", "optimizer/gradient_norm"), ("learning_rate", "optimizer/learning_rate"), ("mfu", "speed/mfu"),
    ("samples_per_second", "speed/samples_per_second"), ("memory_gib", "memory/memory_gib"),
])  # fmt: skip
def test_figures_stand_in_groups(key: str, name: str) -> None:
    assert scalar_name(key) == name


def test_numbers_become_scalars_and_nothing_else() -> None:
    record = {"step": 3, "loss": 1, "mfu": None, "keys": "ab", "flag": True, "share_status": {"ok": 0.75, "name": "x"}}
    assert scalars(record) == {"loss/loss": 1.0, "weighting/share_status/ok": 0.75}
    assert scalar_name("something_new") == f"{OTHER}/something_new"


def test_held_out_figures_by_noise_level_and_by_area_have_groups_of_their_own() -> None:
    assert validation_name("raw/loss") == "validation/raw/loss"
    assert validation_name("ema/loss_inside") == "validation/ema/loss_inside"
    assert validation_name("raw/loss_t0.3") == "validation_noise/raw/loss_t0.3"
    assert validation_name("raw/loss_outside_over_20") == "validation_area/raw/loss_outside_over_20"
