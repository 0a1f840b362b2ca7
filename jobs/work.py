"""The work on one partition, the same under every runner: read or resume, step by step, finish.

Each function commits what it did, and doing it twice gives the same files, since a cluster may run work more than once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.chain import Plan
from jobs.commits import Commit, Finished
from jobs.run_folder import RunFolder
from pipelines.source import Partition
from pipelines.step import Step, StepResult, set_column
from schemas.errors import ContractError, InputError
from schemas.outcomes import no_rejections


@dataclass(frozen=True)
class Resumed:
    """A partition as far as it was done before, or freshly read.

    Args:
        table: the rows after the last committed stage.
        commits: of the stages done, in order; at least the source's.
        read_now: the source's commit was made just now.
    """

    table: pa.Table
    commits: tuple[Commit, ...]
    read_now: bool


def resume(plan: Plan, folder: RunFolder, partition: Partition) -> Resumed:
    """Read a partition and bring it to where it was left.

    Raises:
        InputError: the input no longer gives the rows that were committed; a committed file was altered.
    """
    start = time.monotonic()
    result = plan.source.read(partition)
    commits = folder.commits(plan.stages, partition.name)
    if not commits:
        told = replace(result, kept=result.kept.select(["key"]))
        commit = folder.write_stage(plan.stages[0], partition.name, told, time.monotonic() - start)
        return Resumed(result.kept, (commit,), True)
    table = result.kept
    for commit in commits:
        table = apply_delta(table, folder.read_table(commit.delta), partition)
    return Resumed(table, tuple(commits), False)


def run_step(
    plan: Plan, folder: RunFolder, partition: Partition, position: int, step: Step[Any], table: pa.Table
) -> tuple[pa.Table, Commit]:
    """Run the step at `position` on a partition and commit it; returns the rows that go on, and the commit.

    Raises:
        ContractError: the step dropped a column, or added one it does not declare.
        EditmillError: whatever the step raises.
    """
    start = time.monotonic()
    result = step(table) if table.num_rows else _empty_result(step, table)
    expected = {*table.column_names, *step.adds.names}
    if set(result.kept.column_names) != expected:
        raise ContractError(
            f"step '{step.name}'",
            sorted(expected.symmetric_difference(result.kept.column_names)),
            "the kept rows must have the input's columns and those in `adds`, no others",
            "Declare what the step adds, and let the other columns travel along.",
        )
    delta = result.kept.select(["key", *step.adds.names])
    stage = plan.stages[position]
    told = replace(result, kept=delta)
    commit = folder.write_stage(stage, partition.name, told, time.monotonic() - start)
    # Rows go on as the delta gives them, so that an unbroken run and a resumed one see the same.
    return apply_delta(table, delta, partition), commit


def finish(
    plan: Plan, folder: RunFolder, partition: Partition, commits: tuple[Commit, ...], table: pa.Table | None
) -> Finished:
    """Write a partition's records (unless `table` is None) and outcomes."""
    return folder.write_finish(plan, partition.name, commits, table)


def apply_delta(table: pa.Table, delta: pa.Table, partition: Partition) -> pa.Table:
    """`table` with the rows that `delta` keeps, and its columns added or replaced.

    Raises:
        InputError: `delta` keeps rows that `table` does not have.
    """
    if delta.num_rows != table.num_rows:
        table = table.filter(pc.is_in(table["key"], value_set=delta["key"].combine_chunks()))
    if table["key"].to_pylist() != delta["key"].to_pylist():
        raise InputError(
            "partition",
            partition.path,
            "no longer gives the rows it gave when this run began",
            "Restore the file, or start a new run folder.",
        )
    for field in delta.schema:
        if field.name != "key":
            table = set_column(table, field, delta[field.name])
    return table


@dataclass(frozen=True)
class PartitionLoader:
    """Loads the rows of a partition after the last stage; light to pickle, so that packing may run anywhere."""

    plan: Plan
    folder: RunFolder
    partition: Partition

    def __call__(self) -> pa.Table:
        """The rows.

        Raises:
            InputError: a stage is not committed, or the input changed.
        """
        resumed = resume(self.plan, self.folder, self.partition)
        if len(resumed.commits) != len(self.plan.stages):
            raise InputError(
                "run folder", str(self.folder.path), "a stage is not committed any more", "Run the pipeline again."
            )
        return resumed.table


def _empty_result(step: Step[Any], table: pa.Table) -> StepResult:
    for field in step.adds:
        table = set_column(table, field, pa.array([], field.type))
    return StepResult(table, no_rejections())
