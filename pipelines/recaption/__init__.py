"""Recaption: a VLM describes each image, through an endpoint or on this machine; only validated replies are stored."""

from pipelines.recaption.config import RecaptionConfig
from pipelines.recaption.step import Recaption

__all__ = ["Recaption", "RecaptionConfig"]
