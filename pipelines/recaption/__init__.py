"""Recaption: a VLM describes each image, or writes the instruction of a pair; only validated replies are stored."""

from pipelines.recaption.config import RecaptionConfig, WriteInstructionsConfig
from pipelines.recaption.step import Recaption
from pipelines.recaption.write_instructions import WriteInstructions

__all__ = ["Recaption", "RecaptionConfig", "WriteInstructions", "WriteInstructionsConfig"]
