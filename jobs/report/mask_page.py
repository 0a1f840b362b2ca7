"""`masks-report.html`: how much was edited, how sure the masks are, what was rejected, where two recipes disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from jobs.report.mask_figures import MaskFigures
from jobs.report.mask_pairs import MaskedPair
from jobs.report.mask_rows import MaskRow
from jobs.report.page import render_report
from jobs.report.sections import Histogram, Notice, Section, Strip, Strips, Table
from pipelines.preview.card import percent
from pipelines.preview.look import plain
from pipelines.preview.overlay import mask_over
from pipelines.preview.picture import encode_jpeg, montage
from schemas.masks import MaskStatus
from schemas.weighting import check_weighting, region_weight

_SOURCES = 60
"""Sources with a line of their own; smaller ones share one."""
_GAP_COLOUR = (236, 236, 232)


def mask_page(
    figures: MaskFigures,
    pairs: Mapping[str, MaskedPair],
    title: str,
    weighting: str = "logarithmic",
    cap: float | None = None,
) -> str:
    """The page as text.

    Args:
        figures: of all rows.
        pairs: those that are shown, by key.
        weighting, cap: as `schemas.weighting.region_weight`.

    Raises:
        ConfigError: the weighting or its cap is wrong.
    """
    formula = check_weighting(weighting, cap).formula
    recipes = " and ".join(sorted(figures.recipes)) or "no recipe"
    other = " and ".join(sorted(figures.others))
    intro = f"{figures.rows:,} rows: {figures.kept:,} kept with a mask by {recipes}, the others rejected with a reason."
    if other:
        intro += f" {len(figures.ious):,} pairs were also masked by {other}, for comparison only."
    sections: list[Section] = [_status_table(figures)]
    if figures.fractions:
        sections += _spread(figures.fractions, weighting, formula, cap)
    if any(figures.confidences.values()):
        sections.append(
            Histogram(
                figures.confidences[True],
                "confidence",
                bounds=(0.0, 1.0),
                caption="How sure a recipe is of a mask and its status: to sort by, not a probability.",
                title="Confidence",
                name="kept",
                more={"rejected for their status": figures.confidences[False]},
            )
        )
    else:
        told = (
            f"Masks by {recipes} have no confidence: the least sure ones cannot be told. The recipe robust gives one."
        )
        sections.append(Notice(told, "Confidence"))
    grounds = _grounds(figures)
    if grounds is not None:
        sections.append(grounds)
    if other:
        sections += _agreement(figures, recipes, other)
    masks = (f"mask by {recipes}", *((f"mask by {other}",) if other else ()))
    for rows, heading, caption in (
        (
            figures.least_confident,
            "least confident",
            "Ascending. A rejected pair is among them where its mask was built: what should have been kept shows here.",
        ),
        (
            figures.disagreeing,
            "largest disagreements",
            "Disagreement = 1 - IoU of the masks on the latent grid; of equal ones first those with another status.",
        ),
    ):
        if rows:
            strips = [_strip(row, pairs[row.key], len(masks)) for row in rows]
            columns = ("reference", "target", *masks)
            sections.append(Strips(columns, strips, caption, f"The {len(rows)} {heading}"))
    return render_report(title, intro, sections)


def _status_table(figures: MaskFigures) -> Table:
    totals: Counter[tuple[str, str]] = Counter()
    sizes: Counter[str | None] = Counter()
    for (source, column), count in figures.statuses.items():
        totals[column] += count
        sizes[source] += count
    columns = sorted(totals, key=_column_rank)
    alone = {source for source, _ in sizes.most_common(_SOURCES)}
    cells: dict[str, Counter[tuple[str, str]]] = {}
    for source in sorted(sizes, key=lambda one: (one not in alone, one is None, one or "")):
        name = (source or "not told") if source in alone else f"{len(sizes) - len(alone):,} smaller sources"
        cells.setdefault(name, Counter()).update(
            {column: figures.statuses[source, column] for column in columns if figures.statuses[source, column]}
        )
    rows: list[list[str | int | None]] = [
        [name, *(counts[column] for column in columns), counts.total()] for name, counts in cells.items()
    ]
    if len(rows) > 1:
        rows.append(["all", *(totals[column] for column in columns), totals.total()])
    headings = [f"{name} {fate}".replace("_", " ") for name, fate in columns]
    caption = (
        "Every line adds up to its last number, and the last line to all rows. A row is kept under its mask's status, "
        "or rejected for its reason, which is the status where that was the ground."
    )
    return Table(["source", *headings, "rows in"], rows, caption, "Status by source")


def _column_rank(column: tuple[str, str]) -> tuple[bool, int, str]:
    name, fate = column
    statuses = list(MaskStatus)
    return fate != "kept", statuses.index(MaskStatus(name)) if name in statuses else len(statuses), name


def _spread(fractions: Sequence[float], weighting: str, formula: str, cap: float | None) -> list[Section]:
    edited = np.asarray([one for one in fractions if one > 0.0], np.float64)
    told = (
        f"f = A_edit / A_total of the {len(fractions):,} samples kept; median {percent(float(np.median(fractions)))}."
    )
    sections: list[Section] = [
        Histogram(fractions, "edited fraction", bounds=(0.0, 1.0), caption=told, title="Edited fraction")
    ]
    if edited.size:
        weights = region_weight(weighting, 1.0 / edited, cap)
        limit = "" if cap is None else f", at most {cap:g}"
        caption = (
            f"w(x) = {formula}{limit} ({weighting}), with x = 1 / f of the whole image at full resolution; "
            f"median {np.median(weights):.2f}, largest {weights.max():.2f}. A trainer takes x from the latent cells of "
            "the crop that it draws."
        )
        sections.append(Histogram(weights.tolist(), "weight of the edited region", caption=caption, title="Weight"))
    return sections


def _grounds(figures: MaskFigures) -> Table | None:
    found = [count for count, _ in figures.components]
    dropped = [count - kept for count, kept in figures.components]
    measured: list[tuple[str, Sequence[float]]] = [
        ("components found in a pair", found),
        ("components dropped in a pair", dropped),
        ("shift taken out by registration, pixels", figures.shifts),
    ]
    rows = [
        (name, len(values), int(np.count_nonzero(values)), *np.round(np.quantile(values, (0.5, 0.95, 1.0)), 2).tolist())
        for name, values in measured
        if values
    ]
    if not rows:
        return None
    told = f"{sum(found):,} components were found, {sum(dropped):,} of them dropped." if found else ""
    return Table(("what", "measured", "not 0", "median", "95 %", "largest"), rows, told, "What the recipe met")


def _agreement(figures: MaskFigures, recipe: str, other: str) -> list[Section]:
    ours, theirs = (
        [status.value for status in MaskStatus if any(pair[side] == status for pair in figures.cross)]
        for side in (0, 1)
    )
    rows: list[list[str | int | None]] = []
    for status in ours:
        counts = [figures.cross[status, one] for one in theirs]
        rows.append([status, *counts, sum(counts)])
    sums = [sum(figures.cross[status, one] for status in ours) for one in theirs]
    rows.append(["all", *sums, sum(sums)])
    same = sum(count for (first, second), count in figures.cross.items() if first == second)
    told = f"Lines: {recipe}. Columns: {other}. The same status for {same:,} of {sum(sums):,} pairs."
    columns = [f"{recipe}", *(f"{other}: {one}".replace("_", " ") for one in theirs), "pairs"]
    spread = f"1 where both masks cover the same latent cells; mean {np.mean(figures.ious):.3f}."
    return [
        Table(columns, rows, told, f"Status by {recipe} and by {other}"),
        Histogram(
            figures.ious, "IoU of the two masks", bounds=(0.0, 1.0), caption=spread, title=f"Agreement with {other}"
        ),
    ]


def _strip(row: MaskRow, pair: MaskedPair, masks: int) -> Strip:
    facts = [f"{row.status} kept" if row.reason is None else f"{row.reason} rejected".replace("_", " ")]
    if row.fraction is not None:
        facts.append(f"{percent(row.fraction)} edited")
    if row.confidence is not None:
        facts.append(f"confidence {row.confidence:.2f}")
    if row.source is not None:
        facts.append(plain(row.source))
    other = row.compared
    if other is not None:
        facts.append(f"{other['recipe']}: {other['mask_status']} {percent(other['edited_fraction'])}".replace("_", " "))
        facts.append(f"IoU {other['iou']:.2f}")
    height, width = pair.target.shape[:2]
    several = len(pair.references) > 1
    shown = montage(pair.references, height, width, 4, _GAP_COLOUR) if several else pair.references[0]
    drawn = [
        None if mask is None else encode_jpeg(mask_over(pair.target, mask)) for mask in (pair.mask, pair.other)[:masks]
    ]
    return Strip(row.key, facts, plain(pair.instruction), [encode_jpeg(shown), encode_jpeg(pair.target), *drawn])
