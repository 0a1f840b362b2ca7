"""What the steps of a run asked models for, over all its starts: requests, tokens, money."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.chain import Chain
from pipelines.vlm.asker import Asker
from pipelines.vlm.ledger import MILLION


@dataclass(frozen=True)
class ModelCost:
    """What one step came to: all that was paid, also by killed starts and by runs that share cache and account.

    Args:
        step: its name.
        requests: replies that were given.
        prompt_tokens, completion_tokens: of these.
        spent: money, in the unit of the prices; None where the step has none.
    """

    step: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    spent: float | None

    def sentence(self) -> str:
        """In words."""
        money = "" if self.spent is None else f", {self.spent:,.6g} spent"
        tokens = f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens"
        return f"{self.step}, over all starts: {self.requests:,} replies, {tokens}{money}"


def model_costs(chain: Chain) -> tuple[ModelCost, ...]:
    """Of each step that asked a model and keeps its replies, in order."""
    costs = []
    for step in chain.steps:
        asker = getattr(step, "asker", None)
        totals = asker.totals() if isinstance(asker, Asker) else {}
        if isinstance(asker, Asker) and totals:
            costs.append(
                ModelCost(
                    step.name,
                    totals.get("requests", 0),
                    totals.get("prompt_tokens", 0),
                    totals.get("completion_tokens", 0),
                    totals.get("spent_millionths", 0) / MILLION if asker.is_priced else None,
                )
            )
    return tuple(costs)
