"""Rows of every step as a metric: on Ray's dashboard, and for Prometheus at the metrics port of each node."""

from __future__ import annotations

from functools import cache

from ray.util.metrics import Counter

from jobs.commits import Commit

NAME = "editmill_rows"
"""Counts rows; tags: `run` (name of the run folder), `step`, and `outcome` ("kept", or the reason of a rejection). Work
that is done twice, as after the loss of a node, is counted twice: the run's manifest is what adds up."""


def count_rows(run: str, commit: Commit) -> None:
    """Count the rows of a commit, from a worker."""
    for outcome, rows in {"kept": commit.kept, **commit.rejected}.items():
        if rows:
            _counter().inc(rows, tags={"run": run, "step": commit.stage, "outcome": outcome})


@cache
def _counter() -> Counter:
    return Counter(NAME, description="Rows of each step by what became of them.", tag_keys=("run", "step", "outcome"))
