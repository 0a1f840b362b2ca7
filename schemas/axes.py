"""Ticks and the thinning of long curves: arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that lie in low..high, about as many as asked for."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in low..high; with 2 and 5 times them where there are fewer than three."""
    lowest, highest = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [10.0**power for power in range(lowest, highest + 1)]
    ticks = [tick for tick in powers if low <= tick <= high]
    if len(ticks) < 3:
        ticks = [tick * factor for tick in powers for factor in (1, 2, 5) if low <= tick * factor <= high]
    return ticks or [low]


def tick_text(value: float) -> str:
    """A tick as people write it: thousands parted, no tail of zeros, powers of ten where it would be long."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e7:
        return f"{round(value):,}" if abs(value - round(value)) < 1e-9 * abs(value) else f"{value:.4g}"
    return f"{value:.2g}"


def padded_range(low: float, high: float) -> tuple[float, float]:
    """low..high with 5 % of room on both sides; something to draw in where they are equal."""
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        return low - margin, high + margin
    margin = (high - low) * 0.05
    return low - margin, high + margin


def thin(points: Sequence[Point], limit: int = 1200) -> list[Point]:
    """At most about `limit` points that draw the same line: of each stretch its lowest and its highest."""
    if len(points) <= limit:
        return list(points)
    stretch = -(-len(points) // (limit // 2))
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        piece = range(start, min(start + stretch, len(points)))
        ends = {min(piece, key=lambda i: points[i][1]), max(piece, key=lambda i: points[i][1])}
        kept.extend(points[i] for i in sorted(ends))
    return kept
