"""Steps that must have seen every row before they can part any: surveys, one decision, and then as any other step.

A runner surveys every partition, makes the one decision and hands it back with `decided`; from then on the step goes
over the partitions one by one, anywhere. Since the decision depends on the rows and not on how they came, the result is
the same however the input is cut and whoever does the work.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from copy import copy
from typing import Any, ClassVar, Self, final

import pyarrow as pa

from pipelines.step import Step, StepConfigT, StepResult
from schemas.errors import ContractError


class DatasetStep(Step[StepConfigT]):
    """A step with a decision over the whole data set. A subclass gives `survey`, `decide` and `part`."""

    abstract_step: ClassVar[bool] = True
    _load: Callable[[], pa.Table] | None = None
    _decision: pa.Table | None = None

    @abstractmethod
    def survey(self, table: pa.Table) -> pa.Table:
        """What the decision needs to know of a partition's rows; small, since all surveys are in memory together.

        Args:
            table: "key" and the columns in `needs`, of every row of the partition.
        """

    @abstractmethod
    def decide(self, surveys: pa.Table) -> pa.Table:
        """The decision, as a table of any schema.

        Args:
            surveys: those of all partitions, one after the other. Their order must not matter.
        """

    @abstractmethod
    def part(self, table: pa.Table, decision: pa.Table) -> StepResult:
        """Keep and reject the rows of one batch by the decision."""

    @final
    def decided(self, load: Callable[[], pa.Table]) -> Self:
        """This step with its decision.

        Args:
            load: gives the decision, wherever the step is taken to; picklable, and called once in each process.
        """
        step = copy(self)
        step._load = load
        return step

    def setup(self) -> None:
        """Load the decision."""
        if self._load is not None:
            self._decision = self._load()

    @final
    def process(self, table: pa.Table) -> StepResult:
        """`part` by the decision.

        Raises:
            ContractError: there is none yet.
        """
        if self._decision is None:
            self.setup()
        if self._decision is None:
            raise ContractError(
                f"step '{self.name}'",
                None,
                "has no decision yet",
                "Survey every partition, decide, and call `decided`.",
            )
        return self.part(table, self._decision)

    def __getstate__(self) -> dict[str, Any]:
        """Without the decision itself: who gets the step loads it there."""
        return {name: value for name, value in vars(self).items() if name != "_decision"}
