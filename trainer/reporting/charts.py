"""Curves as inline SVG whose colours come from the page's style sheet, so that they follow light and dark. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from schemas.axes import Point, linear_ticks, log_ticks, padded_range, thin, tick_text

COLOURS = 6
"""Line colours in the style sheet: .s0 ... .s5; further series repeat them."""
_WIDTH, _HEIGHT = 560, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 14, 12, 46
_SMOOTHED = 60
"""A series of more points than this is drawn faintly, with its moving mean over it."""


@dataclass(frozen=True)
class Curve:
    """Lines over one axis.

    Args:
        title: what is shown.
        series: name -> points, in the order of x.
        x_label, y_label: of the axes, with units.
        log_y: whether y is logarithmic; points not above 0 are then left out.
        caption: a sentence below.
        y_bounds: what the y axis shows at least; None shows what the points need.
    """

    title: str
    series: Mapping[str, Sequence[Point]]
    x_label: str = "step"
    y_label: str = ""
    log_y: bool = False
    caption: str = ""
    y_bounds: tuple[float, float] | None = None

    @property
    def has_points(self) -> bool:
        """Whether there is anything to draw."""
        return any(_drawable(points, self.log_y) for points in self.series.values())


def curve_svg(curve: Curve) -> str:
    """The chart. Points that are not finite break their line."""
    drawn = {name: _drawable(points, curve.log_y) for name, points in curve.series.items()}
    every = [point for points in drawn.values() for point in points]
    if not every:
        return _frame([_text(_WIDTH / 2, _HEIGHT / 2, "no points to draw", "middle")], curve.title)
    to_x, x_ticks = _scale([x for x, _ in every], _LEFT, _WIDTH - _RIGHT, False)
    to_y, y_ticks = _scale([*(y for _, y in every), *(curve.y_bounds or ())], _HEIGHT - _BOTTOM, _TOP, curve.log_y)
    parts = _grid(to_x, x_ticks, to_y, y_ticks, curve)
    for position, points in enumerate(drawn.values()):
        colour = f"s{position % COLOURS}"
        if len(points) > _SMOOTHED:
            parts.append(_line(thin(points), to_x, to_y, f"{colour} faint"))
            points = moving_mean(points, max(5, len(points) // 30))
        if len(points) == 1:
            parts.append(
                f'<circle class="{colour} dot" cx="{to_x(points[0][0]):.1f}" cy="{to_y(points[0][1]):.1f}" r="3"/>'
            )
        elif points:
            parts.append(_line(thin(points), to_x, to_y, f"{colour} line"))
        if 1 < len(points) <= _SMOOTHED:
            parts += [
                f'<circle class="{colour} dot" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="2.2"/>' for x, y in points
            ]
    return _frame(parts, f"{curve.title}: {curve.y_label} over {curve.x_label}")


def moving_mean(points: Sequence[Point], window: int) -> list[Point]:
    """The mean of y over `window` points around each, of fewer at the ends."""
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    half, count = window // 2, len(points)
    bounds = ((max(0, place - half), min(count, place + half + 1)) for place in range(count))
    return [
        (points[place][0], (sums[stop] - sums[start]) / (stop - start)) for place, (start, stop) in enumerate(bounds)
    ]


def _drawable(points: Sequence[Point], log_y: bool) -> list[Point]:
    return [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y)]


def _scale(
    values: Sequence[float], start: float, stop: float, log: bool
) -> tuple[Callable[[float], float], list[float]]:
    low, high = min(values), max(values)
    if log:
        low, high = padded_range(math.log10(low), math.log10(high))
        straight = _linear(low, high, start, stop)
        return (lambda value: straight(math.log10(value))), log_ticks(10**low, 10**high)
    low, high = padded_range(low, high)
    return _linear(low, high, start, stop), linear_ticks(low, high)


def _linear(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (stop - start)


def _grid(
    to_x: Callable[[float], float],
    x_ticks: Sequence[float],
    to_y: Callable[[float], float],
    y_ticks: Sequence[float],
    curve: Curve,
) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in y_ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{to_y(tick):.1f}" y2="{to_y(tick):.1f}"/>')
        parts.append(_text(_LEFT - 8, to_y(tick) + 4.5, tick_text(tick), "end"))
    for tick in x_ticks:
        x = to_x(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(_text(x, bottom + 20, tick_text(tick), "middle"))
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 5, curve.x_label, "middle", "name"))
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text class="name" x="14" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 14 {middle:.1f})">'
        f"{escape(curve.y_label)}</text>"
    )
    return parts


def _line(points: Sequence[Point], to_x: Callable[[float], float], to_y: Callable[[float], float], kind: str) -> str:
    path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _frame(parts: Sequence[str], label: str) -> str:
    inner = "".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">{inner}</svg>'
