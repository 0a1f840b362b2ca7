"""Before a step that asks vLLM: put all its open questions to an engine at once, and hand the replies in.

The step then finds every reply in its cache and runs as any other. Replies go into the cache as they come, so that a
job that was killed asks only what is missing. Faulty replies are asked for again in further rounds, as the step would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from jobs.chain import Chain, Plan
from jobs.run_folder import RunFolder
from jobs.work import resume
from pipelines.source import Partition
from pipelines.step import Step
from pipelines.vlm.asker import Asker
from pipelines.vlm.backend import Reply
from pipelines.vlm.chat_completions import messages
from pipelines.vlm.config import GenerationConfig, VLLMConfig
from schemas.errors import RowRejected


@dataclass(frozen=True)
class Question:
    """A question as an engine takes it.

    Args:
        key: of its reply in the cache.
        messages: in OpenAI's chat format, images as data URLs.
        schema: JSON schema of the reply, or None.
    """

    key: str
    messages: list[dict[str, Any]]
    schema: Mapping[str, Any] | None


Questions = Callable[[], Iterator[Question]]
"""Gives the open questions of a partition; picklable."""
Engine = Callable[[GenerationConfig, Sequence[Questions]], Iterable[tuple[str, Reply]]]
"""Answers the questions of some partitions: (key, reply) in any order."""
RunMap = Callable[..., Iterable[Any]]
"""What spreads work: like the builtin `map` of one iterable."""


def asks_vllm(step: Step[Any]) -> bool:
    """Whether the step's questions must be answered ahead."""
    return isinstance(step.config, GenerationConfig) and isinstance(step.config.backend, VLLMConfig)


def is_open(step: Step[Any], table: pa.Table) -> bool:
    """Whether the step, which asks vLLM, would ask anything about these rows that its cache lacks."""
    with _asker(step).noting() as notes:
        step(table)
    return bool(notes)


def answer_ahead(
    chain: Chain,
    folder: RunFolder,
    partitions: Sequence[Partition],
    position: int,
    run_map: RunMap,
    engine: Engine | None = None,
) -> None:
    """Answer every question that the step at `position` will have and its cache lacks.

    Args:
        partitions: of the input; every stage before `position` is committed for each.
        run_map: spreads the counting of what is open.
        engine: by default vLLM through `ray.data.llm`.

    Raises:
        EditmillError: of a source or the step, or the engine cannot be had.
    """
    if engine is None:
        from jobs.runners.vllm_engine import ask_vllm

        engine = ask_vllm
    step, stage, plan = chain.steps[position - 1], chain.plan.stages[position], chain.up_to(position).plan
    todo = [one for one in partitions if folder.commit(stage, one.name) is None]
    for _ in range(1 + getattr(step.config, "max_repairs", 0)):
        counts = run_map(partial(_count, plan=plan, folder=folder, step=step), todo)
        todo = [one for one, count in zip(todo, list(counts), strict=True) if count]
        if not todo:
            return
        questions = [partial(open_questions, plan, folder, step, one) for one in todo]
        for key, reply in engine(step.config, questions):
            _asker(step).keep(key, reply)


def open_questions(plan: Plan, folder: RunFolder, step: Step[Any], partition: Partition) -> Iterator[Question]:
    """The questions of a partition that the cache of `step` lacks. Those with an image that cannot be decoded are left
    to the step, which rejects their rows.

    Args:
        plan: up to before the step.
    """
    table = resume(plan, folder, partition).table
    with _asker(step).noting() as notes:
        if table.num_rows:
            step(table)
    for key, request in notes.items():
        try:
            yield Question(key, messages(request, step.config.max_side), request.schema)
        except RowRejected:
            continue


def _asker(step: Step[Any]) -> Asker:
    asker: Asker = vars(step)["asker"]
    return asker


def _count(partition: Partition, plan: Plan, folder: RunFolder, step: Step[Any]) -> int:
    return sum(1 for _ in open_questions(plan, folder, step, partition))
