"""The one decision of a dataset step: surveyed partition by partition, made once, kept in the run folder.

It is valid as long as the stages before it stand as they were committed. Where one had to be done again and came out
otherwise (a model that does not answer the same twice), the decision is made again; if it differs, what was done by the
former one is taken back first, so that no two partitions follow two decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.chain import Chain, Plan
from jobs.run_folder import RunFolder
from jobs.work import resume
from pipelines.dataset_step import DatasetStep
from pipelines.source import Partition
from schemas.atomic import fingerprint
from schemas.errors import ContractError

RunMap = Callable[..., Iterable[Any]]
"""What spreads work: like the builtin `map` of one iterable."""


def with_decision(
    chain: Chain, folder: RunFolder, partitions: Sequence[Partition], position: int, run_map: RunMap
) -> Chain:
    """`chain` with the decision of the dataset step at `position` made, or found.

    Args:
        partitions: all of the input; every stage before `position` is committed for each.
    """
    stage, step = chain.plan.stages[position], chain.steps[position - 1]
    if not isinstance(step, DatasetStep):
        raise ContractError(f"stage '{stage.label}'", type(step).__name__, "is no dataset step", "Report this defect.")
    before = chain.up_to(position).plan
    inputs = _inputs(before, folder, partitions)
    decision = folder.decision(stage)
    if decision is None or decision.inputs != inputs:
        surveys = list(run_map(partial(_survey, plan=before, folder=folder, step=step), list(partitions)))
        table = step.decide(pa.concat_tables(surveys))
        former = decision
        later = [one for one in chain.plan.stages if one.position >= position]
        if former is None or not folder.read_table(former.table).equals(table):
            folder.forget(later, [partition.name for partition in partitions])
        decision = folder.write_decision(stage, inputs, table)
    return chain.with_step(position, step.decided(partial(folder.read_table, decision.table)))


def _inputs(plan: Plan, folder: RunFolder, partitions: Sequence[Partition]) -> str:
    return fingerprint(
        [[commit.delta.sha256 for commit in folder.commits(plan.stages, partition.name)] for partition in partitions]
    )


def _survey(partition: Partition, plan: Plan, folder: RunFolder, step: DatasetStep[Any]) -> pa.Table:
    return step.survey(_rows(partition, plan, folder, step.needs))


def _rows(partition: Partition, plan: Plan, folder: RunFolder, needs: Sequence[str]) -> pa.Table:
    """Keys and needed columns after the last stage of `plan`: from what the steps added, where that is enough, without
    reading the input and its images again."""
    columns: dict[str, pa.ChunkedArray] = {}
    for commit in reversed(folder.commits(plan.stages, partition.name)):
        here = set(folder.read_schema(commit.delta).names).intersection(needs).difference(columns)
        if not columns or here:
            delta = folder.read_table(commit.delta)
            columns.setdefault("key", delta["key"])
            delta = delta.filter(pc.is_in(delta["key"], value_set=columns["key"].combine_chunks()))
            columns.update((name, delta[name]) for name in here)
    if columns.keys() >= set(needs):
        return pa.table({name: columns[name] for name in ("key", *needs)})
    return resume(plan, folder, partition).table.select(["key", *needs])
