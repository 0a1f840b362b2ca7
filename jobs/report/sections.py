"""What a report is made of: plain values, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.report.counts import StageCounts


@dataclass(frozen=True)
class Text:
    """Prose. Blank lines part paragraphs."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Notice:
    """Something the reader must not miss ("the models here are small, with random weights")."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        columns: the headings.
        rows: as long as `columns` each; numbers are set to the right with thousands parted.
        caption: a sentence below, or "".
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    caption: str = ""
    title: str = ""


@dataclass(frozen=True)
class Figures:
    """Pictures in a row that wraps.

    Args:
        figures: (PNG or JPEG file, caption). One wider than 1000 pixels takes a line of its own.
    """

    figures: Sequence[tuple[bytes, str]]
    title: str = ""


@dataclass(frozen=True)
class Strip:
    """Pictures of one thing side by side.

    Args:
        name: what it is ("a1b2..."), shown so that it can be copied.
        facts: short texts behind it.
        text: one line below, or "".
        pictures: PNG or JPEG files, one a column; None leaves the place empty.
    """

    name: str
    facts: Sequence[str]
    text: str
    pictures: Sequence[bytes | None]


@dataclass(frozen=True)
class Strips:
    """Rows of pictures under common headings.

    Args:
        columns: the headings; each strip has as many pictures.
        caption: a sentence above the strips, or "".
    """

    columns: Sequence[str]
    strips: Sequence[Strip]
    caption: str = ""
    title: str = ""


@dataclass(frozen=True)
class Curve:
    """Lines over one pair of axes.

    Args:
        series: name -> (x, y) points, in drawing order. A point that is not finite (or not above 0 on a logarithmic
            axis) breaks the line, and is counted below the chart.
        log_y: logarithmic y axis.
    """

    series: Mapping[str, Sequence[tuple[float, float]]]
    x_label: str
    y_label: str
    log_y: bool = False
    caption: str = ""
    title: str = ""


@dataclass(frozen=True)
class Bars:
    """Named values as horizontal bars on one scale from 0.

    Args:
        values: name -> value >= 0, in the order shown.
        unit: written after each value.
    """

    values: Mapping[str, float]
    unit: str = ""
    caption: str = ""
    title: str = ""


@dataclass(frozen=True)
class Intervals:
    """Means with their intervals, one line each, in groups that share one scale.

    Args:
        groups: name of a group -> name of a line -> (mean, low, high), all finite; in the order shown.
        x_label: what is measured.
    """

    groups: Mapping[str, Mapping[str, tuple[float, float, float]]]
    x_label: str
    caption: str = ""
    title: str = ""


@dataclass(frozen=True)
class Matrix:
    """How the members of one list stand to each other.

    Args:
        names: of rows and columns alike.
        cells: (row, column) -> what is written there, and how it is marked: "good", "bad" or "".
        caption: how to read it.
    """

    names: Sequence[str]
    cells: Mapping[tuple[str, str], tuple[str, str]]
    caption: str = ""
    title: str = ""


@dataclass(frozen=True)
class Histogram:
    """How values spread.

    Args:
        values: finite numbers.
        bins: how many bins of equal width, >= 1, over the range of the values or `bounds`.
        bounds: (low, high), both inclusive; values outside are not counted, and told below the chart.
        name, more: where there are values of several kinds: what `values` are, and name -> the others, which are
            stacked on top of them.
    """

    values: Sequence[float]
    x_label: str
    bins: int = 20
    bounds: tuple[float, float] | None = None
    caption: str = ""
    title: str = ""
    name: str = ""
    more: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def series(self) -> dict[str, Sequence[float]]:
        """Name -> values, the lowest of the stack first."""
        return {self.name: self.values, **self.more}


@dataclass(frozen=True)
class Counts:
    """Rows of every step: in = kept + rejected, with a mark where it holds. Made by `counts_section`."""

    counts: Sequence[StageCounts]
    title: str = ""


Section = Text | Notice | Table | Figures | Strips | Curve | Bars | Intervals | Matrix | Histogram | Counts


def counts_section(counts: Sequence[StageCounts], title: str = "Rows at every step") -> Counts:
    """The table of every step with rows in, kept, rejected and reasons, and whether they add up."""
    return Counts(tuple(counts), title)
