"""Charts as inline SVG, drawn here: colours come from the page's style sheet, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from jobs.report.sections import Bars, Curve, Histogram
from schemas.axes import Point, linear_ticks, log_ticks, padded_range, thin, tick_text

SERIES_COLOURS = 6
"""Line colours in the style sheet: .s0 ... .s5; further series repeat them."""
WIDTH, _HEIGHT = 760, 320
"""Units of a chart."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 18, 14, 50


def curve_svg(curve: Curve) -> tuple[str, int]:
    """The chart, and how many points could not be drawn (not finite, or not above 0 on a logarithmic axis)."""
    runs = {name: _runs_of(points, curve.log_y) for name, points in curve.series.items()}
    drawn = [point for pieces in runs.values() for piece in pieces for point in piece]
    left_out = sum(len(points) for points in curve.series.values()) - len(drawn)
    if not drawn:
        return frame_svg([text_svg(WIDTH / 2, _HEIGHT / 2, "no points to draw", "middle")], curve.y_label), left_out
    to_x, x_ticks = _scale([x for x, _ in drawn], _LEFT, WIDTH - _RIGHT, False)
    to_y, y_ticks = _scale([y for _, y in drawn], _HEIGHT - _BOTTOM, _TOP, curve.log_y)
    parts = _grid(to_x, x_ticks, to_y, y_ticks, curve.x_label, curve.y_label)
    for position, pieces in enumerate(runs.values()):
        colour = f"s{position % SERIES_COLOURS}"
        for piece in pieces:
            if len(piece) == 1:
                x, y = piece[0]
                parts.append(f'<circle class="{colour} dot" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="3"/>')
            else:
                path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in thin(piece))
                parts.append(f'<polyline class="{colour} line" points="{path}"/>')
    return frame_svg(parts, f"{curve.y_label} over {curve.x_label}"), left_out


def histogram_svg(histogram: Histogram) -> tuple[str, int]:
    """The chart, and how many values lie outside its bounds."""
    series = {name: np.asarray(values, np.float64) for name, values in histogram.series.items()}
    values = np.concatenate(list(series.values()))
    if values.size == 0:
        return frame_svg([text_svg(WIDTH / 2, _HEIGHT / 2, "no values", "middle")], histogram.x_label), 0
    totals, edges = np.histogram(values, bins=histogram.bins, range=histogram.bounds)
    to_x, _ = _scale([float(edges[0]), float(edges[-1])], _LEFT, WIDTH - _RIGHT, False, pad=False)
    top = max(1, int(totals.max()))
    to_y = linear_scale(0.0, top * 1.05, _HEIGHT - _BOTTOM, _TOP)
    y_ticks = [tick for tick in linear_ticks(0, top) if tick == round(tick)]
    parts = _grid(to_x, linear_ticks(float(edges[0]), float(edges[-1]), 8), to_y, y_ticks, histogram.x_label, "count")
    below = np.zeros_like(totals)
    for position, (name, kind) in enumerate(series.items()):
        counts, _ = np.histogram(kind, bins=edges)
        for bin_, count in enumerate(counts.tolist()):
            if count:
                left, right = to_x(float(edges[bin_])), to_x(float(edges[bin_ + 1]))
                y, foot = to_y(int(below[bin_]) + count), to_y(int(below[bin_]))
                told = f"{tick_text(float(edges[bin_]))} to {tick_text(float(edges[bin_ + 1]))}: {count:,} {name}"
                parts.append(
                    f'<rect class="s{position % SERIES_COLOURS} bar" x="{left + 0.5:.1f}" y="{y:.1f}" '
                    f'width="{max(1.0, right - left - 1):.1f}" height="{foot - y:.1f}">'
                    f"<title>{escape(told.strip())}</title></rect>"
                )
        below += counts
    return frame_svg(parts, f"histogram of {histogram.x_label}"), int(values.size - totals.sum())


def bars_svg(bars: Bars) -> str:
    """Horizontal bars, each with its name before it and its value behind it."""
    row, names = 30, list(bars.values)
    longest = max([*bars.values.values(), 0.0])
    left = min(300, 16 + 8 * max((len(name) for name in names), default=0))
    room = WIDTH - left - 130
    parts = []
    for position, (name, value) in enumerate(bars.values.items()):
        middle = position * row + row / 2
        width = max(1.0, room * value / longest) if longest > 0 and value > 0 else 0.0
        shown = f"{tick_text(value)} {bars.unit}".strip()
        parts.append(text_svg(left - 10, middle + 5, name if len(name) <= 36 else f"{name[:35]}…", "end", "name"))
        parts.append(f'<rect class="s0 bar" x="{left}" y="{middle - 9}" width="{width:.1f}" height="18" rx="3"/>')
        parts.append(text_svg(left + width + 8, middle + 5, shown, "start"))
    return frame_svg(parts, "bars", max(row, row * len(names)))


def _runs_of(points: Sequence[Point], log_y: bool) -> list[list[Point]]:
    """The stretches of drawable points between those that cannot be drawn."""
    runs: list[list[Point]] = [[]]
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y):
            runs[-1].append((float(x), float(y)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _scale(
    values: Sequence[float], start: float, stop: float, log: bool, pad: bool = True
) -> tuple[Callable[[float], float], list[float]]:
    low, high = min(values), max(values)
    if log:
        low, high = padded_range(math.log10(low), math.log10(high))
        straight = linear_scale(low, high, start, stop)
        return (lambda value: straight(math.log10(value))), log_ticks(10**low, 10**high)
    if pad or low == high:
        low, high = padded_range(low, high)
    return linear_scale(low, high, start, stop), linear_ticks(low, high)


def linear_scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """The map that takes low..high to start..stop."""
    return lambda value: start + (value - low) / (high - low) * (stop - start)


def _grid(
    to_x: Callable[[float], float],
    x_ticks: Sequence[float],
    to_y: Callable[[float], float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for tick in y_ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{to_y(tick):.1f}" y2="{to_y(tick):.1f}"/>')
        parts.append(text_svg(_LEFT - 9, to_y(tick) + 4.5, tick_text(tick), "end"))
    for tick in x_ticks:
        x = to_x(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(text_svg(x, bottom + 21, tick_text(tick), "middle"))
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(text_svg((_LEFT + right) / 2, _HEIGHT - 7, x_label, "middle", "name"))
    centre = (_TOP + bottom) / 2
    turned = f"translate(16 {centre:.0f}) rotate(-90)"
    parts.append(f'<text class="name" text-anchor="middle" transform="{turned}">{escape(y_label)}</text>')
    return parts


def text_svg(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    """A line of text; `anchor` is start, middle or end, `kind` its class in the style sheet."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def frame_svg(parts: Sequence[str], label: str, height: int = _HEIGHT) -> str:
    """A whole chart of `WIDTH` units; `label` is read out in its place."""
    opening = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
    return opening + "".join(parts) + "</svg>"
