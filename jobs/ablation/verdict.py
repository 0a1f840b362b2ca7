"""What may be said of the arms, in plain sentences. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.ablation.analysis import Analysis, Metric
from jobs.ablation.config import AblationConfig
from jobs.ablation.controls import judged

FOCUS = "logarithmic"
"""The arm whose choice is in question (Lin et al., arXiv:2506.03147)."""


def verdict(config: AblationConfig, analysis: Analysis) -> str:
    """Paragraphs parted by blank lines: one for each metric that decides, one for the controls, and one for whether the
    instruction is heeded at all."""
    seeds = len(config.seeds)
    said = [_of_metric(metric, seeds) for metric in analysis.primary]
    if seeds < 3:
        said.append(f"With {seeds} seed{'s' if seeds > 1 else ''} little can be said of what another seed would give.")
    said += [one for one in (_of_controls(config, analysis), _of_heeding(analysis)) if one]
    return "\n\n".join(said)


def _of_controls(config: AblationConfig, analysis: Analysis) -> str:
    """Of the first metric that decides."""
    sentences = []
    for control, metric, found in judged(config.all_arms(), analysis.primary):
        if metric is not analysis.primary[0]:
            continue
        stands = f"({found.difference.mean:+.4f}, p = {found.adjusted_p:.2g})"
        pair = f"{control.first} and {control.second}"
        if control.kind == "null":
            said = "are one arm under two names, and"
            told = "do not differ" if control.held(found) else "differ: do not trust this report"
        else:
            said = "have the same weights in the right and in random places, and"
            told = "differ" if control.held(found) else "cannot be told apart: this run is too small to see an effect"
        sentences.append(f"{pair} {said} {told} {stands}.")
    return f"Controls, by the {analysis.primary[0].name}: {' '.join(sentences)}" if sentences else ""


def _of_heeding(analysis: Analysis) -> str:
    if not analysis.heeding:
        return ""
    raised = [one.difference.mean / one.own.mean for one in analysis.heeding.values()]
    heeded = [arm for arm, one in analysis.heeding.items() if one.difference.low > 0.0]
    whom = "every arm" if len(heeded) == len(raised) else f"{len(heeded)} of {len(raised)} arms"
    return (
        f"The instruction: with another item's, the loss inside the edit is higher by {min(raised):.0%} to "
        f"{max(raised):.0%} of itself ({analysis.heeding_items} items); in {whom} the 95 % interval leaves 0 out."
    )


def _of_metric(metric: Metric, seeds: int) -> str:
    way = "lower" if metric.lower_is_better else "higher"
    ranked = sorted(metric.arms, key=lambda arm: metric.arms[arm].mean, reverse=not metric.lower_is_better)
    sentences = [
        f"{metric.name[0].upper()}{metric.name[1:]} ({way} is better; {metric.items} items, {seeds} seeds): best is "
        f"{ranked[0]} with {metric.arms[ranked[0]].mean:.4g}, last is {ranked[-1]} with "
        f"{metric.arms[ranked[-1]].mean:.4g}."
    ]
    significant = [one for one in metric.comparisons if one.significant]
    total = len(metric.comparisons)
    if not significant:
        sentences.append(f"None of the {total} differences between arms is significant after Holm's correction.")
        return " ".join(sentences)
    sentences.append(f"{len(significant)} of {total} differences are significant after Holm's correction.")
    if FOCUS in metric.arms:
        sentences.append(_of_focus(metric))
    return " ".join(sentences)


def _of_focus(metric: Metric) -> str:
    better: list[str] = []
    worse: list[str] = []
    open_: list[str] = []
    for one in metric.comparisons:
        if FOCUS not in (one.first, one.second):
            continue
        other = one.second if one.first == FOCUS else one.first
        if not one.significant:
            open_.append(other)
            continue
        lower = (one.difference.mean < 0) == (one.first == FOCUS)
        (better if lower == metric.lower_is_better else worse).append(other)
    parts = [
        f"{text} {_listed(names)}"
        for text, names in (
            ("is better than", better),
            ("is worse than", worse),
            ("cannot be told from", open_),
        )
        if names
    ]
    return f"The arm {FOCUS} {'; it '.join(parts)}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
