"""`report.html` of an ablation: the verdict first, then the figures with their intervals, then how they came about."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.ablation.analysis import Analysis, Metric
from jobs.ablation.config import AblationConfig
from jobs.ablation.curves import learning_curves, weighting_curves
from jobs.ablation.pictures import edit_grid
from jobs.ablation.runs import Run
from jobs.report.page import render_report
from jobs.report.sections import Intervals, Matrix, Notice, Section, Table
from trainer.validation.bins import AREA_BINS
from trainer.validation.regions import REGIONS


def ablation_page(config: AblationConfig, runs: Sequence[Run], analysis: Analysis, said: str) -> str:
    """The page as text."""
    arms = config.all_arms()
    intro = (
        f"{len(arms)} arms, {len(config.seeds)} seeds, {len(runs)} runs of {runs[0].config.steps:,} steps. All arms of "
        "a seed share initial weights, order, noise and timesteps; only the weights of the loss differ. Intervals are "
        "95 %, from a paired bootstrap over seeds and items; p-values are corrected after Holm."
    )
    sections: list[Section] = [Notice(said, "What can be said")]
    for metric in analysis.primary:
        sections += [_intervals(metric), _matrix(metric)]
    for region in REGIONS:
        section = _by_bin(analysis, region)
        if section is not None:
            sections.append(section)
    sections += [_intervals(metric) for metric in analysis.edits.values()]
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


def _matrix(metric: Metric) -> Matrix:
    cells = {}
    for one in metric.comparisons:
        for row, column, sign in ((one.first, one.second, 1), (one.second, one.first, -1)):
            difference = sign * one.difference.mean
            good = (difference < 0) == metric.lower_is_better
            mark = ("good" if good else "bad") if one.significant else ""
            cells[row, column] = (f"{difference:+.4f}" if abs(difference) >= 5e-5 else "0", mark)
    return Matrix(
        list(metric.arms),
        cells,
        title=f"Differences: {metric.name}",
        caption="Row minus column. Green: the row is better, and red: worse, at 5 % after Holm's correction and with "
        "an interval without 0. Grey: cannot be told apart.",
    )


def _by_bin(analysis: Analysis, region: str) -> Intervals | None:
    groups = {
        AREA_BINS[name]: {arm: (one.mean, one.low, one.high) for arm, one in analysis.by_bin[region, name].arms.items()}
        for name in AREA_BINS
        if (region, name) in analysis.by_bin
    }
    if not groups:
        return None
    where = "at the border of the edit" if region == "border" else f"{region} the edit"
    return Intervals(
        groups, f"held-out loss {where}", title=f"Loss {where}, by edited area",
        caption="Unweighted flow-matching error, the mean over nine noise levels; lower is better.",
    )  # fmt: skip


def _arms_table(config: AblationConfig, runs: Sequence[Run]) -> Table:
    rows = []
    for name, arm in config.all_arms().items():
        weighting = next(run.config.weighting for run in runs if run.arm == name)
        cap = "none" if weighting.max_weight is None else f"{weighting.max_weight:g}"
        more = [f"scale {weighting.scale:.4g}"] if weighting.scale != 1.0 else []
        more += ["weights shuffled in space"] if weighting.shuffled else []
        rows.append([name, weighting.function, weighting.normalise, cap, ", ".join(more) or "-", arm.data])
    return Table(["arm", "function", "normalise", "cap", "more", "data"], rows, title="The arms")
