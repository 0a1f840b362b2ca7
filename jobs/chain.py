"""A chain: one source and the steps after it, each stage with a fingerprint of all that decides its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.dataset_step import DatasetStep
from pipelines.source import Partition, Source
from pipelines.step import Step
from schemas.atomic import fingerprint
from schemas.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """The source (position 0) or a step (positions 1, 2, ...) as a place in a chain.

    Args:
        position: place in the chain.
        name, version: of the source or step.
        fingerprint: hash of the source's fingerprint and of those of all steps up to and with this one; work committed
            under it is valid exactly as long as it stays the same.
    """

    position: int
    name: str
    version: int
    fingerprint: str

    @property
    def label(self) -> str:
        """`00-edit_pairs_jsonl`: unique in the chain, in order when sorted."""
        return f"{self.position:02d}-{self.name}"


@dataclass(frozen=True)
class Plan:
    """What a worker must know of a chain: the source to read from and the stages; light to pickle."""

    source: Source[Any]
    stages: tuple[Stage, ...]

    @property
    def fingerprint(self) -> str:
        """Of the whole chain."""
        return self.stages[-1].fingerprint


@dataclass(frozen=True)
class Chain:
    """A plan with its steps; `steps[i]` is the stage at position i + 1."""

    plan: Plan
    steps: tuple[Step[Any], ...]

    def up_to(self, position: int) -> Chain:
        """The beginning of the chain, without the stage at `position` and what follows."""
        return Chain(Plan(self.plan.source, self.plan.stages[:position]), self.steps[: position - 1])

    def with_step(self, position: int, step: Step[Any]) -> Chain:
        """The chain with another step, of the same fingerprint, as the stage at `position`."""
        steps = list(self.steps)
        steps[position - 1] = step
        return Chain(self.plan, tuple(steps))


def make_chain(source: Source[Any], steps: Sequence[Step[Any]]) -> Chain:
    """The chain of `source` and `steps`, in order."""
    stages = [Stage(0, source.name, source.version, fingerprint([source.fingerprint()]))]
    for step in steps:
        chained = fingerprint([stages[-1].fingerprint, step.fingerprint()])
        stages.append(Stage(len(stages), step.name, step.version, chained))
    return Chain(Plan(source, tuple(stages)), tuple(steps))


def over_partitions(chain: Chain, partitions: Sequence[Partition]) -> Chain:
    """The chain for this very input: what a dataset step does with a partition depends on all of them."""
    stages = list(chain.plan.stages[:1])
    names = fingerprint([partition.name for partition in partitions])
    for stage, step in zip(chain.plan.stages[1:], chain.steps, strict=True):
        parts = [stages[-1].fingerprint, step.fingerprint(), *([names] if isinstance(step, DatasetStep) else [])]
        stages.append(replace(stage, fingerprint=fingerprint(parts)))
    return Chain(Plan(chain.plan.source, tuple(stages)), chain.steps)


def check_columns(chain: Chain, provided: Sequence[str] | None) -> None:
    """Check that every step finds the columns it needs.

    Args:
        provided: the columns of the source's tables, or None where only reading tells; then each step checks its own
            table when it gets there.

    Raises:
        ConfigError: nobody before a step provides a column that the step needs.
    """
    if provided is None:
        return
    known = {"key", *provided}
    for position, step in enumerate(chain.steps):
        for column in step.needs:
            if column not in known:
                later = [other.name for other in chain.steps[position + 1 :] if column in other.adds.names]
                mend = f"Put the step '{later[0]}' before it." if later else "Add the step that provides it."
                raise ConfigError(
                    f"steps[{position}].{step.name} needs column '{column}'",
                    sorted(known),
                    "neither the source nor an earlier step provides it",
                    mend,
                )
        known.update(step.adds.names)
