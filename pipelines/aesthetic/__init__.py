"""Aesthetic scores: a CLIP embedding of each image under a published head."""

from pipelines.aesthetic.config import AestheticConfig
from pipelines.aesthetic.step import Aesthetic

__all__ = ["Aesthetic", "AestheticConfig"]
