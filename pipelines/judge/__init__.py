"""Judging: a VLM scores how well a target follows its instruction; a reply that is no score is never taken for one."""

from pipelines.judge.config import JudgeConfig
from pipelines.judge.step import Judge

__all__ = ["Judge", "JudgeConfig"]
