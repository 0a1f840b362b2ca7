"""How far a run is: one line on a wide terminal, two on a narrow one, plain lines where there is none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

_RECENT = 100
"""Steps that the time left is told from."""
_GAP = "  "
_LEAST_BAR, _LONGEST_BAR = 6, 30


@dataclass
class Standing:
    """Where a run stands.

    Args:
        steps: of the whole run.
        step: done.
        record: the latest line of log.jsonl.
        seconds_left: None where it cannot be told yet.
        next_validation: step; None where there is none to come.
        doing: what is being done instead of training, such as `validating`.
    """

    steps: int
    step: int
    record: Mapping[str, Any] = field(default_factory=dict)
    seconds_left: float | None = None
    next_validation: int | None = None
    doing: str = ""


def figures(record: Mapping[str, Any]) -> list[str]:
    """The few figures of a record that are shown, in reading order; those that it lacks are left out."""
    shown = (
        ("loss", lambda value: f"loss {value:.4f}"),
        ("learning_rate", lambda value: f"lr {value:.1e}"),
        ("samples_per_second", lambda value: f"{_short(value)} samples/s"),
        ("tokens_per_second", lambda value: f"{_short(value)} tokens/s"),
        ("mfu", lambda value: f"MFU {100 * value:.1f} %"),
        ("memory_gib", lambda value: f"{value:.1f} GiB"),
    )
    return [write(record[key]) for key, write in shown if isinstance(record.get(key), int | float)]


def place(standing: Standing) -> list[str]:
    """How far the run is, how long it will take, and what comes next."""
    parts = [f"{standing.step:,}/{standing.steps:,}"]
    if standing.doing:
        parts.append(standing.doing)
    if standing.seconds_left is not None:
        parts.append(f"{duration(standing.seconds_left)} left")
    if standing.next_validation is not None and not standing.doing:
        parts.append(f"validation at {standing.next_validation:,}")
    return parts


def live_lines(standing: Standing, width: int) -> list[str]:
    """What a terminal of `width` columns shows: one line where all fits beside a bar, else as many as are needed, none
    longer than the terminal is wide."""
    told = [*place(standing), *figures(standing.record)]
    room = width - len(f"train {_GAP}{_GAP.join(told)}")
    if room >= _LEAST_BAR:
        return [f"train {_bar(standing, min(room, _LONGEST_BAR))}{_GAP}{_GAP.join(told)}"]
    first = _GAP.join(place(standing))
    room = width - len(f"train {_GAP}{first}")
    lines = [f"train {_bar(standing, min(room, _LONGEST_BAR))}{_GAP}{first}" if room >= _LEAST_BAR else first]
    return [line[:width] for line in (*lines, *_packed(figures(standing.record), width))]


def plain_line(standing: Standing) -> str:
    """A line of a log: everything, without a bar."""
    told = [f"step {standing.step}/{standing.steps}", *figures(standing.record), *place(standing)[1:]]
    return _GAP.join(told)


def duration(seconds: float) -> str:
    """`2 d 03:04:05`, `3:04:05` or `4:05`."""
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, last = divmod(rest, 60)
    if days:
        return f"{days} d {hours:02d}:{minutes:02d}:{last:02d}"
    return f"{hours}:{minutes:02d}:{last:02d}" if hours else f"{minutes}:{last:02d}"


class TrainingProgress:
    """Shows a `Standing` on a console while a run goes on."""

    def __init__(self, console: Console, steps: int, first_step: int, every: int, shows: bool) -> None:
        """`every`: steps between plain lines; `shows`: False shows nothing."""
        self._console = console
        self._every = every
        self._shows = shows
        self._standing = Standing(steps, first_step)
        self._ends: deque[float] = deque(maxlen=_RECENT)
        self._live = Live(self, console=console, refresh_per_second=4) if shows and console.is_terminal else None

    def start(self) -> None:
        """Begin to show."""
        if self._live is not None:
            self._live.start()

    def stop(self) -> None:
        """Leave the last state standing."""
        if self._live is not None:
            self._live.stop()

    def step(self, record: Mapping[str, Any], next_validation: int | None) -> None:
        """A step is done."""
        standing = self._standing
        self._ends.append(time.monotonic())
        standing.step, standing.record, standing.doing = int(record["step"]), record, ""
        standing.next_validation = next_validation
        if len(self._ends) > 1:
            each = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
            standing.seconds_left = each * (standing.steps - standing.step)
        if self._shows and self._live is None and (standing.step % self._every == 0 or standing.step == standing.steps):
            self._console.print(plain_line(standing), highlight=False, markup=False, soft_wrap=True)

    def doing(self, what: str) -> None:
        """Something else than a step is being done; an empty text ends it."""
        self._standing.doing = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in live_lines(self._standing, options.max_width):
            yield Text(line, no_wrap=True, overflow="crop")


def _bar(standing: Standing, length: int) -> str:
    done = min(length, length * standing.step // max(1, standing.steps))
    return "━" * done + "─" * (length - done)


def _packed(parts: Sequence[str], width: int) -> Iterator[str]:
    """Parts in lines no longer than `width`, where a single part is not."""
    line = ""
    for part in parts:
        longer = f"{line}{_GAP}{part}" if line else part
        if len(longer) > width and line:
            yield line
            line = part
        else:
            line = longer
    if line:
        yield line


def _short(value: float) -> str:
    """Three digits or so, with k and M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit * 9.995:
            return f"{value / limit:.1f}{unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"
