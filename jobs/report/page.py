"""A report as one self-contained HTML page: no server, no script, no external resource."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from jobs.report.charts import SERIES_COLOURS, bars_svg, curve_svg, histogram_svg
from jobs.report.interval_chart import intervals_svg
from jobs.report.sections import (
    Bars,
    Counts,
    Curve,
    Figures,
    Histogram,
    Intervals,
    Matrix,
    Notice,
    Section,
    Strips,
    Table,
    Text,
)

_TEMPLATE = Path(__file__).with_name("report.html")
_WIDE = 1000
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}


def render_report(title: str, intro: str, sections: Sequence[Section]) -> str:
    """The page as text. Every text is escaped; pictures are data URIs, charts inline SVG.

    Args:
        intro: one or more paragraphs, parted by blank lines.
        sections: in reading order; those with a title are listed at the top where there are more than two.

    Raises:
        ValueError: a figure is neither PNG nor JPEG, or a table's row is not as long as its headings.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=title, intro=_paragraphs(intro), sections=[_values(section) for section in sections])


def _values(section: Section) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": type(section).__name__.lower(), "title": section.title}
    match section:
        case Text() | Notice():
            values["paragraphs"] = _paragraphs(section.text)
        case Table():
            values.update(columns=section.columns, rows=_cells(section), caption=section.caption)
        case Figures():
            values["figures"] = [_figure(data, caption) for data, caption in section.figures]
        case Strips():
            values.update(columns=section.columns, strips=_strips(section), lead=section.caption)
        case Curve():
            svg, left_out = curve_svg(section)
            legend = _legend(section.series)
            note = f"{left_out:,} points could not be drawn (not finite, or not above 0)." if left_out else ""
            values.update(svg=Markup(svg), legend=legend, caption=_joined(section.caption, note))
        case Bars():
            values.update(svg=Markup(bars_svg(section)), legend=[], caption=section.caption)
        case Intervals():
            values.update(svg=Markup(intervals_svg(section)), legend=[], caption=section.caption)
        case Matrix():
            rows = [
                (row, [section.cells.get((row, column), ("", "")) for column in section.names]) for row in section.names
            ]
            values.update(names=section.names, rows=rows, caption=section.caption)
        case Histogram():
            svg, outside = histogram_svg(section)
            count = sum(len(kind) for kind in section.series.values())
            note = f"{outside:,} of {count:,} values lie outside." if outside else ""
            values.update(svg=Markup(svg), legend=_legend(section.series), caption=_joined(section.caption, note))
        case Counts():
            values["rows"] = [
                {
                    "name": count.name,
                    "rows_in": count.rows_in,
                    "kept": count.kept,
                    "rejected": count.rows_rejected,
                    "reasons": sorted(count.rejected.items(), key=lambda item: (-item[1], item[0])),
                    "share": count.kept / count.rows_in if count.rows_in else 0.0,
                    "adds_up": count.rows_in == count.kept + count.rows_rejected,
                }
                for count in section.counts
            ]
    return values


def _legend(series: Iterable[str]) -> list[tuple[str, str]]:
    return [(f"s{position % SERIES_COLOURS}", name) for position, name in enumerate(series)]


def _strips(section: Strips) -> list[dict[str, Any]]:
    strips = []
    for strip in section.strips:
        if len(strip.pictures) != len(section.columns):
            raise ValueError(
                f"strip '{strip.name}' has {len(strip.pictures)} pictures for {len(section.columns)} columns"
            )
        pictures = [
            None if data is None else _figure(data, f"{heading} of {strip.name}")
            for heading, data in zip(section.columns, strip.pictures, strict=True)
        ]
        strips.append({"name": strip.name, "facts": strip.facts, "text": strip.text, "pictures": pictures})
    return strips


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _cells(table: Table) -> list[list[dict[str, Any]]]:
    rows = []
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(f"a row has {len(row)} cells for {len(table.columns)} columns: {list(row)}")
        rows.append([{"text": _cell_text(value), "number": isinstance(value, int | float)} for value in row])
    return rows


def _cell_text(value: str | int | float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _figure(data: bytes, caption: str) -> dict[str, Any]:
    kind = next((name for start, name in _SIGNATURES.items() if data.startswith(start)), None)
    if kind is None:
        raise ValueError(f"figure '{caption}' is neither PNG nor JPEG")
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    source = f"data:image/{kind};base64,{base64.standard_b64encode(data).decode()}"
    return {"source": source, "caption": caption, "width": width, "height": height, "is_wide": width > _WIDE}
