"""The scales that scores are on, and whether a file's own statistics agree with them."""

from __future__ import annotations

from pipelines.metadata_filter.statistics import ColumnStatistics
from schemas.errors import SchemaError

AESTHETIC_SCALES: dict[str, tuple[float, float]] = {"laion_1_10": (1.0, 10.0), "unit_0_1": (0.0, 1.0)}
"""Aesthetic scale by name -> its lowest and highest bound, both inclusive."""

_SLACK = {"laion_1_10": 1.0}
"""LAION's predictors are regressions, which now and then overshoot their scale."""
_ROUNDING = 1e-3


def score_limits(score_scale: str) -> dict[str, tuple[float, float]]:
    """Score column -> least and greatest value that it may have, both inclusive; beyond them it is on another scale."""
    low, high = AESTHETIC_SCALES[score_scale]
    slack = _SLACK.get(score_scale, _ROUNDING)
    return {
        "aesthetic": (low - slack, high + slack),
        "watermark": (-_ROUNDING, 1.0 + _ROUNDING),
        "unsafe": (-_ROUNDING, 1.0 + _ROUNDING),
        "similarity": (-1.0 - _ROUNDING, 1.0 + _ROUNDING),
    }


def check_scales(path: str, group: int, score_scale: str, statistics: dict[str, ColumnStatistics]) -> None:
    """Check the statistics of a row group, of those score columns that the filter uses, against the scales.

    Raises:
        SchemaError: a column leaves its scale.
    """
    for column, (low, high) in score_limits(score_scale).items():
        found = statistics.get(column)
        if found is None or not isinstance(found.least, float) or not isinstance(found.greatest, float):
            continue
        if found.least < low or found.greatest > high:
            value = found.least if found.least < low else found.greatest
            kinds = {"aesthetic": f"the declared score_scale {score_scale}", "similarity": "a cosine, -1 to 1"}
            raise SchemaError(
                f"{path}: {column}",
                f"{value:g} in row group {group}, by its statistics",
                f"leaves {kinds.get(column, 'a probability, 0 to 1')}",
                "Declare the scale that the file is on (score_scale)."
                if column == "aesthetic"
                else "Bring the column to that scale, or use another column through where.",
            )


def check_not_unit(path: str, score_scale: str, highest: list[float | None]) -> None:
    """All scores of a file in 0..1 under a declared 1-10 means another scale; without full statistics nothing is
    claimed.

    Args:
        highest: greatest aesthetic score of each row group, None where unknown.

    Raises:
        SchemaError: so it is.
    """
    known = [value for value in highest if value is not None]
    if score_scale == "laion_1_10" and known and len(known) == len(highest) and max(known) <= 1.0:
        raise SchemaError(
            f"{path}: aesthetic",
            f"at most {max(known):g} in the whole file, by its statistics",
            "does not look like the declared score_scale laion_1_10",
            "Declare score_scale: unit_0_1 and give the bounds on that scale.",
        )
