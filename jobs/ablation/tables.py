"""`tables.md`: every figure of the report as Markdown, to be put into a paper or a README. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.ablation.analysis import Analysis, Metric
from jobs.ablation.config import AblationConfig
from jobs.ablation.mask_quality import Agreement
from trainer.ablation.statistics import Estimate
from trainer.validation.bins import AREA_BINS

Row = Sequence[str]


def tables(config: AblationConfig, analysis: Analysis, agreement: Mapping[str, Agreement], said: str) -> str:
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
        parts += [f"## Held-out loss {where(region)}, by edited area", markdown(heading, rows)]
    for name, metric in analysis.edits.items():
        parts += [f"## {name}", markdown(["arm", "mean", "95 % interval"], arm_rows(metric))]
    if analysis.heeding:
        parts += [f"## {HEEDING_TITLE}", markdown(HEEDING_COLUMNS, heeding_rows(analysis))]
    if agreement:
        parts += [f"## {AGREEMENT_TITLE}", markdown(*agreement_table(agreement))]
    return "\n\n".join(parts) + "\n"


HEEDING_TITLE = "Held-out loss inside the edit with the right and with a wrong instruction"
HEEDING_COLUMNS = ("arm", "own instruction", "another item's", "difference", "95 % interval")
AGREEMENT_TITLE = "How the masks that arms train on agree with the masks of train"


def heeding_rows(analysis: Analysis) -> list[Row]:
    """Arm by arm, in the order of the arms."""
    return [
        [
            arm,
            f"{one.own.mean:.4f}",
            f"{one.other.mean:.4f}",
            f"{one.difference.mean:+.4f}",
            f"{one.difference.low:+.4f} to {one.difference.high:+.4f}",
        ]
        for arm, one in analysis.heeding.items()
    ]


def agreement_table(agreement: Mapping[str, Agreement]) -> tuple[Row, list[Row]]:
    """Headings and rows: overlap and size by edited area."""
    bins = [name for name in AREA_BINS if any(name in one.overlap for one in agreement.values())]
    rows: list[Row] = [
        [
            name,
            ", ".join(one.arms),
            *(f"{one.overlap[area]:.2f} ({one.size[area]:.1f} x)" if area in one.overlap else "" for area in bins),
        ]
        for name, one in agreement.items()
    ]
    return ["data", "arms", *(AREA_BINS[name] for name in bins)], rows


def against(metric: Metric, arm: str) -> dict[str, Estimate]:
    """Every other arm -> its difference from `arm`, the best first; empty where `arm` is none of them."""
    if arm not in metric.arms:
        return {}
    found = {other: metric.comparison(other, arm).difference for other in metric.arms if other != arm}
    return dict(sorted(found.items(), key=lambda item: item[1].mean, reverse=not metric.lower_is_better))


def where(region: str) -> str:
    """A region in words: "inside the edit"."""
    return "at the border of the edit" if region == "border" else f"{region} the edit"


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
