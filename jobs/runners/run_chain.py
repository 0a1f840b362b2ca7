"""Run a chain: find what is done already, and hand the rest to the runner that the config names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from jobs.chain import Chain
from jobs.commits import Commit, Finished
from jobs.decisions import RunMap, with_decision
from jobs.run_folder import RunFolder
from jobs.runners.answer_ahead import answer_ahead, asks_vllm
from jobs.runners.config import RunnerConfig
from jobs.runners.in_process import run_in_process
from jobs.runners.listener import Listener, Once
from pipelines.dataset_step import DatasetStep
from pipelines.source import Partition
from pipelines.step import Step


def run_chain(
    chain: Chain,
    folder: RunFolder,
    partitions: Sequence[Partition],
    with_records: bool,
    runner: RunnerConfig,
    listener: Listener,
) -> int:
    """Bring every partition through the chain, and commit each step of each as it is done.

    Before each dataset step all partitions come together: it is decided once, and they go on. So they do before a step
    that asks vLLM: all of its questions are answered at once.

    Args:
        with_records: whether to write the rows after the last step to `records/`.

    Returns:
        How many partitions there was work to do for; 0 where an earlier run had finished all.

    Raises:
        EditmillError: of a source or a step, under every runner the same; what was committed stays.
    """
    once = Once(listener)
    worked: set[str] = set()
    # A dataset step needs every partition to have come to it; vLLM is asked for all of them at once.
    barriers = [place for place, step in enumerate(chain.steps, start=1) if _waits_for_all(step)]
    with ExitStack() as session:
        for end in (*barriers, len(chain.plan.stages)):
            is_last = end == len(chain.plan.stages)
            pending = _not_yet(chain, folder, partitions, end, with_records if is_last else None, once)
            once.between_partitions()
            worked.update(partition.name for partition in pending)
            if pending:
                _run(chain.up_to(end), folder, pending, with_records if is_last else None, runner, once, session)
            if not is_last and (pending or _is_open(chain, folder, partitions, end)):
                run_map = _run_map(runner, session)
                if asks_vllm(chain.steps[end - 1]):
                    answer_ahead(chain, folder, partitions, end, run_map)
                else:
                    chain = with_decision(chain, folder, partitions, end, run_map)
    return len(worked)


def _waits_for_all(step: Step[Any]) -> bool:
    return isinstance(step, DatasetStep) or asks_vllm(step)


def _not_yet(
    chain: Chain,
    folder: RunFolder,
    partitions: Sequence[Partition],
    end: int,
    with_records: bool | None,
    listener: Listener,
) -> list[Partition]:
    """The partitions that are not yet before the stage at `end`, or, with `with_records`, not yet finished; tells of
    what is committed of the others."""
    pending = []
    for partition in partitions:
        commits = folder.commits(chain.plan.stages[:end], partition.name)
        finish = None
        if len(commits) == end and with_records is not None:
            finish = folder.finished(chain.plan, partition.name, with_records)
        if len(commits) < end or (with_records is not None and finish is None):
            pending.append(partition)
            continue
        for commit in commits:
            listener.committed(commit, found=True)
        if finish is not None:
            listener.finished(finish, found=True)
    return pending


def _is_open(chain: Chain, folder: RunFolder, partitions: Sequence[Partition], position: int) -> bool:
    stage = chain.plan.stages[position]
    return any(folder.commit(stage, partition.name) is None for partition in partitions)


def _run(
    chain: Chain,
    folder: RunFolder,
    partitions: Sequence[Partition],
    with_records: bool | None,
    runner: RunnerConfig,
    listener: Listener,
    session: ExitStack,
) -> None:
    if runner.kind == "ray":
        from jobs.runners.ray_session import ray_session

        session.enter_context(ray_session(runner))
        if any(step.holds_model for step in chain.steps):
            from jobs.runners.ray_data import run_on_ray as spread
        else:
            from jobs.runners.ray_tasks import run_in_tasks as spread
        spread(chain, folder, partitions, with_records, runner, listener)
    else:
        run_in_process(chain, folder, partitions, with_records, listener)


def _run_map(runner: RunnerConfig, session: ExitStack) -> RunMap:
    if runner.kind == "in_process":
        return map
    from jobs.runners.ray_session import ray_map, ray_session

    session.enter_context(ray_session(runner))
    return ray_map


def find_pending(
    chain: Chain, folder: RunFolder, partitions: Sequence[Partition], with_records: bool
) -> dict[str, int]:
    """The partitions that are not finished, by name, and how many stages of each are committed."""
    pending = {}
    for partition in partitions:
        done, commits = _state(chain, folder, partition, with_records)
        if done is None:
            pending[partition.name] = len(commits)
    return pending


def _state(
    chain: Chain, folder: RunFolder, partition: Partition, with_records: bool
) -> tuple[Finished | None, list[Commit]]:
    commits = folder.commits(chain.plan.stages, partition.name)
    if len(commits) < len(chain.plan.stages):
        return None, commits
    return folder.finished(chain.plan, partition.name, with_records), commits
