"""Means with their intervals as inline SVG: one line each, in groups on one scale."""

from __future__ import annotations

from jobs.report.charts import SERIES_COLOURS, WIDTH, frame_svg, linear_scale, text_svg
from jobs.report.sections import Intervals
from schemas.axes import linear_ticks, padded_range, tick_text

_ROW, _HEAD, _FOOT, _RIGHT = 22, 30, 50, 24


def intervals_svg(section: Intervals) -> str:
    """The chart. Lines of one name have one colour in every group."""
    drawn = [value for lines in section.groups.values() for triple in lines.values() for value in triple]
    if not drawn:
        return frame_svg([text_svg(WIDTH / 2, 40, "nothing to draw", "middle")], section.x_label, 80)
    names = list(dict.fromkeys(name for lines in section.groups.values() for name in lines))
    left = min(300, 24 + 7.6 * max(len(name) for name in names))
    low, high = padded_range(min(drawn), max(drawn))
    to_x = linear_scale(low, high, left, WIDTH - _RIGHT)
    rows = sum(len(lines) for lines in section.groups.values())
    bottom = rows * _ROW + len(section.groups) * _HEAD
    parts = []
    for tick in linear_ticks(low, high, 6):
        x = to_x(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        parts.append(text_svg(x, bottom + 18, tick_text(tick), "middle"))
    parts.append(text_svg((left + WIDTH - _RIGHT) / 2, bottom + 40, section.x_label, "middle", "name"))
    y = 0.0
    for group, lines in section.groups.items():
        y += _HEAD
        parts.append(text_svg(4, y - 9, group, "start", "name"))
        for name, (mean, lower, upper) in lines.items():
            middle = y + _ROW / 2
            colour = f"s{names.index(name) % SERIES_COLOURS}"
            told = f"{name}: {mean:.4g} ({lower:.4g} to {upper:.4g})"
            parts.append(text_svg(left - 10, middle + 4.5, name, "end"))
            parts.append(
                f'<g class="{colour}"><title>{told}</title>'
                f'<line class="whisker" x1="{to_x(lower):.1f}" x2="{to_x(upper):.1f}" y1="{middle}" y2="{middle}"/>'
                f'<circle class="dot" cx="{to_x(mean):.1f}" cy="{middle}" r="4"/></g>'
            )
            y += _ROW
    return frame_svg(parts, section.x_label, round(bottom + _FOOT))
