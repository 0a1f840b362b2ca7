"""Leakage: training rows that show an image of a benchmark."""

from pipelines.leakage.step import Leakage, LeakageConfig

__all__ = ["Leakage", "LeakageConfig"]
