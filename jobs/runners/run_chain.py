"""Run a chain: find what is done already, and hand the rest to the runner that the config names."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.chain import Chain
from jobs.commits import Commit, Finished
from jobs.run_folder import RunFolder
from jobs.runners.config import RunnerConfig
from jobs.runners.in_process import run_in_process
from jobs.runners.listener import Listener
from pipelines.source import Partition


def run_chain(
    chain: Chain,
    folder: RunFolder,
    partitions: Sequence[Partition],
    with_records: bool,
    runner: RunnerConfig,
    listener: Listener,
) -> int:
    """Bring every partition through the chain, and commit each step of each as it is done.

    Args:
        with_records: whether to write the rows after the last step to `records/`.

    Returns:
        How many partitions there was work to do for; 0 where an earlier run had finished all.

    Raises:
        EditmillError: of a source or a step, under every runner the same; what was committed stays.
    """
    pending = []
    for partition in partitions:
        done, commits = _state(chain, folder, partition, with_records)
        if done is None:
            pending.append(partition)
            continue
        for commit in commits:
            listener.committed(commit, found=True)
        listener.finished(done, found=True)
    if not pending:
        return 0
    if runner.kind == "ray":
        from jobs.runners.ray_data import run_on_ray
        from jobs.runners.ray_session import ray_session

        with ray_session(runner):
            run_on_ray(chain, folder, pending, with_records, runner, listener)
    else:
        run_in_process(chain, folder, pending, with_records, listener)
    return len(pending)


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
