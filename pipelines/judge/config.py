"""What is judged, by which model, and what a pair must reach."""

from __future__ import annotations

from pydantic import Field

from pipelines.vlm.repair import RepairConfig

IMGEDIT_LEAST = {"instruction_following": 4, "naturalness": 4}


class JudgeConfig(RepairConfig):
    """Scores of each edit pair, put into `judge_scores`."""

    prompt: str = "imgedit_scores.v1"
    """The prompt that comes with editmill, or the path of your own prompt file."""
    least: dict[str, int] = Field(default_factory=lambda: dict(IMGEDIT_LEAST))
    """Score -> the least that a pair must reach, inclusive; a pair under one is rejected. Scores not named here are
    stored and decide nothing; `{}` only stores."""
    max_new_tokens: int = Field(default=256, ge=1)
    """A reply that reaches this many tokens is cut off, and holds no scores."""
