"""Bounds on a pair: how large its images are, and how much of the target was edited."""

from pipelines.pair_bounds.step import PairBounds, PairBoundsConfig

__all__ = ["PairBounds", "PairBoundsConfig"]
