"""What an ablation says of rows in which an effect, and a null, were planted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.ablation.analysis import analyse
from jobs.ablation.config import AblationConfig
from jobs.ablation.controls import Control, controls, judged
from jobs.ablation.mask_quality import Agreement
from jobs.ablation.results import Results
from jobs.ablation.tables import against, tables
from jobs.ablation.verdict import verdict
from schemas.config import parse_config
from schemas.errors import ConfigError
from trainer.validation.bins import AREA_BINS

ARMS: dict[str, Any] = {
    "uniform": {"weighting": {"function": "uniform"}},
    "linear": {"weighting": {"function": "linear"}},
    "logarithmic": {"weighting": {"function": "logarithmic"}},
    "again": {"weighting": {"function": "logarithmic"}},
    "linear_shuffled": {"weighting": {"function": "linear", "shuffled": True}},
}
GAIN = {"uniform": 0.0, "linear": 0.30, "logarithmic": 0.25, "again": 0.25, "linear_shuffled": 0.0}
ITEMS = 30


def config(**changes: Any) -> AblationConfig:
    train = {"steps": 2, "data": {"shards": ["a"]}, "stage": "full", "validation": {"shards": ["b"]}}
    values = {"name": "planted", "model": "m", "train": train, "standard_arms": False, "arms": ARMS, "replicates": 2000}
    return parse_config(AblationConfig, {**values, **changes}, "test")


def results(gain: dict[str, float] = GAIN, heeded: float = 0.5) -> Results:
    """Losses that a planted gain inside the edit lowers, with effects of seeds and items, and noise of each run."""
    losses, others, edits = [], [], []
    for arm, of_arm in gain.items():
        for row in _items(arm):
            inside = row.pop("base") - of_arm + row.pop("noise")
            counts = {"inside_count": 4, "outside_count": 60, "border_count": 6}
            sums = {"inside_sum": 4 * inside, "outside_sum": 60 * (inside / 2), "border_sum": 6 * inside}
            losses.append({**row, **sums, **counts})
            others.append({**row, **sums, **counts, "inside_sum": 4 * (inside + heeded)})
            if row["level"] == 0.5:
                edit = {"inside_to_target": inside / 10, "inside_psnr": 20 - inside, "inside_ssim": 0.5 - inside / 10}
                told = {"is_copy": inside > 1.0, "outside_to_reference": 0.01, "noise_seed": 0}
                edits.append({**{name: row[name] for name in ("arm", "seed", "key", "weights")}, **edit, **told})
    return Results(*(pa.Table.from_pylist(rows) for rows in (losses, others, edits)))


def _items(arm: str) -> Iterator[dict[str, Any]]:
    """Rows without their losses: the same items and seeds in every arm; equal arms have equal noise."""
    shared = np.random.default_rng(7)
    own = np.random.default_rng(8 if arm in ("logarithmic", "again") else len(arm))
    of_items = shared.normal(1.2, 0.2, ITEMS)
    for seed in (0, 1, 2):
        of_seed = 0.02 * shared.normal()
        for item in range(ITEMS):
            noise = 0.02 * own.normal()
            for level in (0.1, 0.5, 0.9):
                name = list(AREA_BINS)[item % 5]
                yield {
                    "arm": arm, "seed": seed, "weights": "ema", "key": f"{item:04d}", "area_bin": name, "level": level,
                    "base": of_items[item] + of_seed, "noise": noise,
                }  # fmt: skip


def test_the_controls_of_a_config_are_its_equal_arms_and_those_that_are_shuffled() -> None:
    found = controls(config().all_arms())
    assert found == [Control("effect", "linear", "linear_shuffled"), Control("null", "logarithmic", "again")]
    swapped = {"linear_shuffled": ARMS["linear_shuffled"], "linear": ARMS["linear"]}
    assert controls(config(arms=swapped).all_arms()) == [Control("effect", "linear", "linear_shuffled")]
    spelt = {
        "one": {"weighting": {"shuffled": False}},
        "two": {"weighting": {"shuffled": False}},
        "three": {"data": "x"},
    }
    assert controls(config(arms=spelt).all_arms()) == [Control("null", "one", "two")]


def test_a_planted_effect_is_detected_and_a_planted_null_is_not() -> None:
    ablation = config()
    analysis = analyse(ablation, results())
    loss = analysis.primary[0]
    assert loss.items == 12 and loss.arms["uniform"].mean > loss.arms["logarithmic"].mean
    for control, metric, found in judged(ablation.all_arms(), analysis.primary):
        assert metric is not loss or control.held(found), control
    effect = loss.comparison("linear_shuffled", "linear")
    assert effect.significant and effect.difference.mean == pytest.approx(0.30, abs=0.03)
    assert loss.comparison("linear", "linear_shuffled").difference.low == -effect.difference.high
    assert loss.comparison("again", "logarithmic").adjusted_p == 1.0
    assert not loss.comparison("uniform", "linear_shuffled").significant
    said = verdict(ablation, analysis)
    assert "is better than uniform and linear_shuffled" in said and "cannot be told from again" in said
    assert "one arm under two names, and do not differ" in said and "in random places, and differ" in said


def test_controls_are_corrected_for_each_other_and_not_for_all_arms() -> None:
    ablation = config()
    primary = analyse(ablation, results()).primary
    found = judged(ablation.all_arms(), primary)
    assert len(found) == 2 * len(primary) < sum(len(metric.comparisons) for metric in primary)
    for control, metric, comparison in found:
        alone = metric.comparison(control.first, control.second)
        assert comparison.difference == alone.difference
        assert comparison.difference.p_value <= comparison.adjusted_p <= alone.adjusted_p
        assert comparison.adjusted_p <= len(found) * comparison.difference.p_value


def test_a_control_that_fails_is_said_out_loud() -> None:
    ablation = config()
    said = verdict(ablation, analyse(ablation, results({**GAIN, "again": 0.0, "linear_shuffled": 0.3})))
    assert "do not trust this report" in said and "too small to see an effect" in said


def test_where_no_arm_differs_the_verdict_says_so_for_every_metric() -> None:
    ablation = config()
    same = analyse(ablation, results(dict.fromkeys(GAIN, 0.0)))
    assert [metric.name for metric in same.primary][1] == "copy-rate"
    said = verdict(ablation, same)
    assert said.count("None of the 10 differences between arms is significant") == 2


def test_whether_the_instruction_is_heeded_is_told_of_every_arm() -> None:
    ablation = config()
    heeded = analyse(ablation, results())
    assert heeded.heeding_items == ITEMS
    assert all(one.difference.mean == pytest.approx(0.5) for one in heeded.heeding.values())
    assert "in every arm the 95 % interval leaves 0 out" in verdict(ablation, heeded)
    assert "in 0 of 5 arms" in verdict(ablation, analyse(ablation, results(heeded=0.0)))


def test_tables_hold_every_figure_and_say_which_way_is_good() -> None:
    ablation = config()
    analysis = analyse(ablation, results())
    agreement = {"found": Agreement(("logarithmic",), {"under_1": 0.5}, {"under_1": 2.0})}
    text = tables(ablation, analysis, agreement, "said")
    for heading in ("copy-rate", "PSNR", "SSIM", "right and with a wrong instruction", "masks", "0.50 (2.0 x)"):
        assert heading in text
    ranked = text.split("## PSNR")[1].split("##")[0]
    assert ranked.index("| linear |") < ranked.index("| uniform |")
    differences = against(analysis.primary[0], "uniform")
    assert next(iter(differences)) == "linear" and differences["linear"].high < 0 and "uniform" not in differences


def test_too_few_replicates_to_find_anything_are_refused() -> None:
    assert config(replicates=800).replicates == 800
    with pytest.raises(ConfigError, match="at least 800 with 5 arms"):
        config(replicates=799)
