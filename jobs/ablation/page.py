"""`report.html` of an ablation: the verdict first, then the figures with their intervals, then how they came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.ablation.analysis import Analysis, Metric
from jobs.ablation.config import AblationConfig
from jobs.ablation.controls import judged
from jobs.ablation.curves import learning_curves, mean_of_log, weighting_curves
from jobs.ablation.mask_quality import Agreement
from jobs.ablation.pictures import edit_grid
from jobs.ablation.runs import Run
from jobs.ablation.tables import (
    AGREEMENT_TITLE,
    HEEDING_COLUMNS,
    HEEDING_TITLE,
    against,
    agreement_table,
    heeding_rows,
    where,
)
from jobs.report.page import render_report
from jobs.report.sections import Intervals, Matrix, Notice, Section, Table
from trainer.validation.bins import AREA_BINS
from trainer.validation.regions import REGIONS

PLAIN = "uniform"
"""The arm that every other is held against."""


def ablation_page(
    config: AblationConfig, runs: Sequence[Run], analysis: Analysis, agreement: Mapping[str, Agreement], said: str
) -> str:
    """The page as text."""
    arms = config.all_arms()
    intro = (
        f"{len(arms)} arms, {len(config.seeds)} seeds, {len(runs)} runs of {runs[0].config.steps:,} steps. All arms of "
        "a seed share initial weights, order, noise and timesteps; only the weights of the loss differ. Intervals are "
        "95 %, from a paired bootstrap over seeds and items; p-values are corrected after Holm."
    )
    sections: list[Section] = [Notice(said, "What can be said")]
    for metric in analysis.primary:
        sections += [_intervals(metric), *_against_uniform(metric), _matrix(metric)]
    sections += _controls(config, analysis)
    for region in REGIONS:
        section = _by_bin(analysis, region)
        if section is not None:
            sections.append(section)
    sections += [_intervals(metric) for metric in analysis.edits.values()]
    sections += _mask_quality(agreement)
    sections += _heeding(analysis)
    sections += edit_grid(runs, config.primary.weights)
    sections += learning_curves(runs)
    sections += weighting_curves(config)
    sections.append(_arms_table(config, runs))
    return render_report(f"Ablation {config.name}", intro, sections)


def _intervals(metric: Metric) -> Intervals:
    ranked = sorted(metric.arms.items(), key=lambda item: item[1].mean, reverse=not metric.lower_is_better)
    lines = {arm: (one.mean, one.low, one.high) for arm, one in ranked}
    way = "Lower" if metric.lower_is_better else "Higher"
    return Intervals(
        {"": lines},
        metric.name,
        title=f"{metric.name[0].upper()}{metric.name[1:]}",
        caption=f"{way} is better. {metric.items} held-out items. Arms share items and seeds, so that two of them may "
        "differ for certain though their intervals overlap: the table of differences tells.",
    )


def _against_uniform(metric: Metric) -> list[Section]:
    differences = against(metric, PLAIN)
    if not differences:
        return []
    lines = {arm: (one.mean, one.low, one.high) for arm, one in differences.items()}
    return [
        Intervals(
            {"": lines}, f"difference from {PLAIN}", title=f"Against {PLAIN}: {metric.name}",
            caption=f"Paired differences, arm minus {PLAIN}; an interval is not corrected for the number of arms, the "
            "table of differences is.",
        )
    ]  # fmt: skip


def _controls(config: AblationConfig, analysis: Analysis) -> list[Section]:
    rows = []
    for control, metric, found in judged(config.all_arms(), analysis.primary):
        must = "must not differ" if control.kind == "null" else "must differ"
        came = "differs" if found.significant else "does not differ"
        stands = f"{found.difference.mean:+.4f} ({found.difference.low:+.4f} to {found.difference.high:+.4f})"
        rows.append([control.first, control.second, must, metric.name, stands, f"{found.adjusted_p:.2g}", came])
    columns = ["first", "second", "planted", "metric", "first - second", "p, corrected", "found"]
    caption = "Named before the run, and corrected for each other alone: they say what this run can see."
    return [Table(columns, rows, caption=caption, title="Controls")] if rows else []


def _mask_quality(agreement: Mapping[str, Agreement]) -> list[Section]:
    if not agreement:
        return []
    caption = (
        "Intersection over union on the latent grid, by edited area, and in brackets how many times as large the mask "
        "is. All data sets hold the same pairs; what the mask's quality does to the weighting's effect is seen above, "
        "where the arms that train on them stand beside the one that trains on train."
    )
    return [Table(*agreement_table(agreement), caption=caption, title=AGREEMENT_TITLE)]


def _heeding(analysis: Analysis) -> list[Section]:
    if not analysis.heeding:
        return []
    caption = f"{analysis.heeding_items} held-out items; the difference is paired."
    return [Table(HEEDING_COLUMNS, heeding_rows(analysis), caption=caption, title=HEEDING_TITLE)]


def _matrix(metric: Metric) -> Matrix:
    cells = {}
    for one in metric.comparisons:
        for row, column, sign in ((one.first, one.second, 1), (one.second, one.first, -1)):
            difference = sign * one.difference.mean
            good = (difference < 0) == metric.lower_is_better
            mark = ("good" if good else "bad") if one.significant else ""
            cells[row, column] = (f"{difference:+.3f}" if abs(difference) >= 5e-4 else "0", mark)
    return Matrix(
        list(metric.arms),
        cells,
        title=f"Differences: {metric.name}",
        caption="Row minus column. Green: the row is better, and red: worse, at 5 % after Holm's correction and with "
        "an interval without 0. Plain: cannot be told apart.",
    )


def _by_bin(analysis: Analysis, region: str) -> Intervals | None:
    groups = {
        AREA_BINS[name]: {arm: (one.mean, one.low, one.high) for arm, one in analysis.by_bin[region, name].arms.items()}
        for name in AREA_BINS
        if (region, name) in analysis.by_bin
    }
    if not groups:
        return None
    return Intervals(
        groups, f"held-out loss {where(region)}", title=f"Loss {where(region)}, by edited area",
        caption="Unweighted flow-matching error, the mean over nine noise levels; lower is better.",
    )  # fmt: skip


def _arms_table(config: AblationConfig, runs: Sequence[Run]) -> Table:
    rows = []
    for name, arm in config.all_arms().items():
        own = [run for run in runs if run.arm == name]
        weighting = own[0].config.weighting
        cap = "none" if weighting.max_weight is None else f"{weighting.max_weight:g}"
        more = [f"scale {weighting.scale:.4g}"] if weighting.scale != 1.0 else []
        more += ["weights shuffled in space"] if weighting.shuffled else []
        weight, share = mean_of_log(own, "mean_weight"), mean_of_log(own, "share_inside")
        rows.append(
            [
                name, weighting.function, weighting.normalise, cap, ", ".join(more) or "-", arm.data,
                "" if weight is None else f"{weight:.2f}", "" if share is None else f"{share:.0%}",
            ]
        )  # fmt: skip
    columns = ["arm", "function", "normalise", "cap", "more", "data", "mean weight", "loss inside"]
    caption = "Mean weight of a cell, and share of the weighted loss inside the edit, over all training steps."
    return Table(columns, rows, caption=caption, title="The arms")
