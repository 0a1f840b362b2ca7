"""`tables.md`: every figure of the report as Markdown, to be put into a paper or a README. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.ablation.analysis import Analysis, Metric
from jobs.ablation.config import AblationConfig
from trainer.ablation.statistics import Estimate
from trainer.validation.bins import AREA_BINS

Row = Sequence[str]


def tables(config: AblationConfig, analysis: Analysis, said: str) -> str:
    """The file's text."""
    parts = [f"# {config.name}", said]
    for metric in analysis.primary:
        parts += [f"## {metric.name}", markdown(["arm", "mean", "95 % interval"], arm_rows(metric))]
        parts.append(markdown(["first", "second", "difference", "95 % interval", "p, corrected"], pair_rows(metric)))
    for region in dict.fromkeys(place[0] for place in analysis.by_bin):
        bins = [name for name in AREA_BINS if (region, name) in analysis.by_bin]
        heading = ["arm", *(AREA_BINS[name] for name in bins)]
        arms = analysis.by_bin[region, bins[0]].arms
        rows = [[arm, *(interval(analysis.by_bin[region, name].arms[arm]) for name in bins)] for arm in arms]
        parts += [f"## Held-out loss {region} the edit, by edited area", markdown(heading, rows)]
    for name, metric in analysis.edits.items():
        parts += [f"## {name}", markdown(["arm", "mean", "95 % interval"], arm_rows(metric))]
    return "\n\n".join(parts) + "\n"


def arm_rows(metric: Metric) -> list[Row]:
    """Arm, mean, interval; best first."""
    ranked = sorted(metric.arms.items(), key=lambda item: item[1].mean, reverse=not metric.lower_is_better)
    return [[arm, f"{one.mean:.4f}", f"{one.low:.4f} to {one.high:.4f}"] for arm, one in ranked]


def pair_rows(metric: Metric) -> list[Row]:
    """Every comparison, those that are significant in bold."""
    rows: list[Row] = []
    for one in metric.comparisons:
        difference = f"{one.difference.mean:+.4f}"
        rows.append(
            [
                one.first,
                one.second,
                f"**{difference}**" if one.significant else difference,
                f"{one.difference.low:+.4f} to {one.difference.high:+.4f}",
                f"{one.adjusted_p:.2g}",
            ]
        )
    return rows


def interval(estimate: Estimate) -> str:
    """Mean and half the interval's width: "0.1234 ± 0.0056"."""
    return f"{estimate.mean:.4f} ± {(estimate.high - estimate.low) / 2:.4f}"


def markdown(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """A table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
